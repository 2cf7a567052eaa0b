package client

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"syscall"
	"testing"
)

func TestLoadChecksAllFilesFirst(t *testing.T) {
	s := serve(t, accepted(2))
	b := newBench(t, s.URL, "good.csv", twoRows, "empty.csv", "", "what.xlsx", "x", "shape.zip", "x")
	if err := os.Mkdir("folder.csv", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo("pipe.csv", 0o600); err != nil {
		t.Fatal(err)
	}
	b.cfg.Files = append(b.cfg.Files, "missing.csv", "folder.csv", "pipe.csv", "http://example.org/a.csv")
	err := b.load(context.Background())
	if err == nil {
		t.Fatal("no error")
	}
	mustContain(t, err.Error(), "empty.csv: the file is empty and has no points", "what.xlsx: this is a spreadsheet", "ogr2ogr -f GeoJSONSeq /vsistdout/ what.xlsx | cairn load -", "ogr2ogr -f GeoJSONSeq /vsistdout/ /vsizip/shape.zip | cairn load -",
		"missing.csv: there is no such file", "folder.csv: no file in this folder", "pipe.csv: this is not a regular file", "http://example.org/a.csv: this is an address")
	if n := len(s.seen()); n > 0 {
		t.Errorf("%d requests before the check", n)
	}
}

func TestLoadRefusesWrongConfig(t *testing.T) {
	for want, change := range map[string]func(*LoadConfig){
		"no file is named":              func(c *LoadConfig) { c.Files = nil },
		`"xml" is not known`:            func(c *LoadConfig) { c.Format = "xml" },
		"must be one character":         func(c *LoadConfig) { c.Delimiter = ";;" },
		"--time-zone=":                  func(c *LoadConfig) { c.TimeZone = "Mars" },
		"of CSV, and no file is CSV":    func(c *LoadConfig) { c.Format, c.Longitude = "ndjson", "x" },
		"is not the address of a":       func(c *LoadConfig) { c.URL = "ftp://example.org" },
		"address ends before the ?":     func(c *LoadConfig) { c.URL = "http://example.org/?a=b" },
		"server's address cannot be re": func(c *LoadConfig) { c.URL = "http://[::1" },
	} {
		t.Run(want, func(t *testing.T) {
			b := newBench(t, "", "a.csv", twoRows)
			change(&b.cfg)
			err := Load(context.Background(), b.cfg)
			if err == nil {
				t.Fatal("no error")
			}
			mustContain(t, err.Error(), want)
		})
	}
}

// failing is a client whose first connections fail.
func failing(n int, err error) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if n--; n >= 0 {
			return nil, err
		}
		return dial(ctx, network, address)
	}
	return &http.Client{Transport: transport}
}

func TestLoadWaitsForAServerThatStarts(t *testing.T) {
	s := serve(t, accepted(2))
	b := newBench(t, s.URL, "a.csv", twoRows)
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	b.client = failing(2, refused)
	t.Cleanup(b.client.CloseIdleConnections)
	b.run()
	if len(b.slept) != 2 {
		t.Errorf("waited %v", b.slept)
	}
	mustContain(t, b.err.String(), "nothing answers at "+s.URL+" (connection refused)", "cairn serve", "make run")
}

func TestLoadGivesUpAtOnceOnWrongServers(t *testing.T) {
	b := newBench(t, "http://nowhere.invalid", "a.csv", twoRows)
	b.client = failing(1, &net.DNSError{Name: "nowhere.invalid", IsNotFound: true})
	err := b.load(context.Background())
	if !errors.Is(err, errGaveUp) || len(b.slept) > 0 {
		t.Fatalf("got %v after %v", err, b.slept)
	}
	mustContain(t, err.Error(), "there is no host nowhere.invalid")

	s := httptest.NewUnstartedServer(accepted(2))
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	b = newBench(t, s.URL, "a.csv", twoRows)
	err = b.load(context.Background())
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) || len(b.slept) > 0 {
		t.Fatalf("got %v after %v", err, b.slept)
	}
}
