package cli

import (
	"crypto/tls"

	"github.com/nats-io/nats.go"

	"log/slog"
	"net"
	"slices"
	"time"

	"cairn/bus"
	"cairn/internal/auth"
	"cairn/internal/web"
)

// webFlags are how a role listens, and whom it lets in.
type webFlags struct {
	Auth           []string      `enum:"none,keys,jwt" env:"CAIRN_AUTH" placeholder:"none|keys|jwt,…" help:"Who has access: everybody (none), holders of an access key (keys; see 'cairn keys'), holders of a token of --jwt-issuer (jwt). Default: none if only this machine can connect; otherwise required."`
	JWTIssuer      string        `name:"jwt-issuer" env:"CAIRN_JWT_ISSUER" placeholder:"URL" help:"OpenID Connect issuer whose tokens are accepted."`
	JWTAudience    string        `name:"jwt-audience" env:"CAIRN_JWT_AUDIENCE" placeholder:"NAME" help:"Audience that tokens must have."`
	TLSCert        string        `name:"tls-cert" env:"CAIRN_TLS_CERT" type:"path" placeholder:"FILE" help:"Certificate with its chain, PEM: serve HTTPS instead of HTTP, and TLS on the queue's port if other machines can connect to it. Reloaded when it changes."`
	TLSKey         string        `name:"tls-key" env:"CAIRN_TLS_KEY" type:"path" placeholder:"FILE" help:"Private key of the certificate, PEM."`
	AllowOrigins   []string      `env:"CAIRN_ALLOW_ORIGINS" placeholder:"ORIGIN,…" help:"Origins whose pages may write, such as https://maps.example.org, or * for all (none)."`
	TrustedProxies []string      `env:"CAIRN_TRUSTED_PROXIES" placeholder:"NETWORK,…" help:"Networks of the proxies whose X-Forwarded-* and Forwarded headers are trusted, such as 10.1.2.0/24, or none. Default: this machine and private networks."`
	ProxyProtocol  bool          `env:"CAIRN_PROXY_PROTOCOL" help:"Accept the PROXY protocol, version 1 or 2, from trusted proxies, as HAProxy sends it with send-proxy-v2."`
	DrainWait      time.Duration `env:"CAIRN_DRAIN_WAIT" placeholder:"DURATION" help:"How long to keep serving after a stop signal while /readyz reports it, so that proxies notice, such as 5s (0)."`
	MaxConnections int           `env:"CAIRN_MAX_CONNECTIONS" placeholder:"NUMBER" help:"Limit on HTTP connections. Default: derived from the limit of open files."`
}

// authority is nil where everybody is let in.
func (f webFlags) authority(listen string, log *slog.Logger) (*auth.Authority, error) {
	keys, tokens := slices.Contains(f.Auth, "keys"), slices.Contains(f.Auth, "jwt")
	switch {
	case len(f.Auth) == 0 && !onlyHere(listen):
		return nil, usagef("other machines can connect to %s, and nobody has chosen whom to let in: "+
			"set --auth (CAIRN_AUTH) to keys, to jwt, or to none if everybody who can connect may read and write", listen)
	case slices.Contains(f.Auth, "none") && (keys || tokens):
		return nil, usagef("--auth none lets everybody in; it cannot stand beside keys or jwt")
	case tokens && (f.JWTIssuer == "" || f.JWTAudience == ""):
		return nil, usagef("--auth jwt needs --jwt-issuer and --jwt-audience")
	case !keys && !tokens:
		return nil, nil //nolint:nilnil // everybody
	}
	cfg := auth.Config{Keys: keys, Log: log}
	if tokens {
		cfg.Issuer = &auth.Issuer{URL: f.JWTIssuer, Audience: f.JWTAudience}
	}
	return auth.New(cfg), nil
}

// asks reports whether who connects must say who they are.
func (f webFlags) asks() bool {
	return slices.Contains(f.Auth, "keys") || slices.Contains(f.Auth, "jwt")
}

// queueTLS is how the queue's port is encrypted where other machines can connect to it:
// by the certificate that HTTP has, if there is one.
func (f webFlags) queueTLS(listen string, log *slog.Logger) (*tls.Config, error) {
	if f.TLSCert == "" || onlyHere(listen) {
		return nil, nil //nolint:nilnil // not at all
	}
	cfg, err := web.LoadTLS(f.TLSCert, f.TLSKey, log)
	if err != nil {
		return nil, usageError{err}
	}
	cfg.NextProtos = nil // those are HTTP's
	return cfg, nil
}

// onlyHere reports whether nobody but this machine can connect to what listens there.
func onlyHere(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return true // web.Listen says what is wrong with it
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// A listening is a server, with what it knows of the caller.
type listening struct {
	*web.Server
	scheme    string
	authority *auth.Authority
	log       *slog.Logger
}

// listen binds the address for a number of roles.
func (f webFlags) listen(s *session, address string, roles int, log *slog.Logger) (*listening, error) {
	l := &listening{scheme: "http", log: log}
	cfg := web.Config{Listen: address, Version: s.build.Version, Log: log, MaxConnections: f.MaxConnections, DrainWait: f.DrainWait}
	var err error
	if cfg.Origins, err = web.ParseOrigins(slices.DeleteFunc(f.AllowOrigins, func(o string) bool { return o == "" })); err != nil {
		return nil, usageError{err}
	}
	if cfg.Proxies, err = web.ParseProxies(f.TrustedProxies); err != nil {
		return nil, usageError{err}
	}
	if cfg.ProxyProtocol = f.ProxyProtocol; f.ProxyProtocol && cfg.Proxies != nil && len(cfg.Proxies) == 0 {
		return nil, usagef("--proxy-protocol is for proxies that are trusted, and --trusted-proxies is none")
	}
	if l.authority, err = f.authority(address, log); err != nil {
		return nil, err
	}
	cfg.Access = l.authority
	if (f.TLSCert == "") != (f.TLSKey == "") {
		return nil, usagef("--tls-cert and --tls-key go together")
	}
	if f.TLSCert != "" {
		l.scheme = "https"
		if cfg.TLS, err = web.LoadTLS(f.TLSCert, f.TLSKey, log); err != nil {
			return nil, usageError{err}
		}
	}
	l.Server, err = web.Listen(cfg, roles)
	return l, err
}

// follow begins to follow who may come in; end ends it.
func (l *listening) follow(endpoint bus.Endpoint) (end func(), err error) {
	if l.authority == nil {
		return func() {}, nil
	}
	return l.authority.Follow(func() (*nats.Conn, error) { return bus.Connect(endpoint, l.log) })
}
