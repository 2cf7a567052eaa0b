package cli

import "cairn/internal/web"

type publicFlag struct {
	PublicURL string `name:"public-url" env:"CAIRN_PUBLIC_URL" placeholder:"URL" help:"URL at which clients reach this service, such as https://example.org/maps, for the links in answers. Empty: taken from the request and its trusted proxies."`
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
	IngestURL string `name:"ingest-url" env:"CAIRN_INGEST_URL" placeholder:"URL" help:"The ingest service, such as http://ingest:8081: writes under /collections, /fences and /hooks are forwarded to it. Empty: they are refused."`
}
