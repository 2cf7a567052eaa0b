package cli

import "cairn/internal/web"

type publicFlag struct {
	PublicURL string `name:"public-url" env:"CAIRN_PUBLIC_URL" placeholder:"URL" help:"Where clients reach this service, such as https://example.org/maps: what links in answers begin with. Empty: what requests and the proxies of a private network say."`
}

// publish tells the server where clients reach it.
func (f publicFlag) publish(server *web.Server) error {
	public, err := web.ParsePublicURL(f.PublicURL)
	if err != nil {
		return usageError{err}
	}
	server.SetPublicURL(public)
	return nil
}

type ingestURLFlag struct {
	IngestURL string `name:"ingest-url" env:"CAIRN_INGEST_URL" placeholder:"URL" help:"The ingest service, such as http://ingest:8081: writes under /collections, /fences and /hooks are passed on to it. Empty: they are refused here."`
}
