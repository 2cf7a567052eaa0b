package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

const (
	// statusTimeout is longer than the server gives itself to ask others.
	statusTimeout = 10 * time.Second
	// maxStatusBytes bounds what is read as a status: Cairn's is a few kilobytes.
	maxStatusBytes = 1 << 20
)

// Status asks the server at address ("" is DefaultURL) for GET /status and
// writes it to out for people.
func Status(ctx context.Context, address string, out io.Writer) error {
	base, err := parseURL(address)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	raw, err := getStatus(bounded, base)
	if err != nil {
		return err
	}
	text, err := renderStatus(raw)
	if err != nil {
		return fmt.Errorf("what %s answers is not the status of Cairn (%w): check the address", clean(base.Redacted()), err)
	}
	_, err = out.Write(text)
	return err
}

func getStatus(ctx context.Context, base *url.URL) ([]byte, error) {
	name := clean(base.Redacted())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("status").String(), nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, errors.New(unreachable(name, "connection refused"))
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("%s did not answer within %s", name, readableDuration(statusTimeout))
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return nil, fmt.Errorf("nothing answers at %s: %w", name, wrapped.Err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxStatusBytes))
	if err != nil {
		return nil, fmt.Errorf("read the status of %s: %w", name, err)
	}
	if response.StatusCode != http.StatusOK {
		var a answer
		_ = json.Unmarshal(raw, &a) // a proxy's page has no detail
		return nil, fmt.Errorf("%s: %s", name, describe(response, &a))
	}
	return raw, nil
}
