package hook_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"

	"cairn/hook"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// What a receiver does: it checks the signature with the secret that the first PUT of
// the hook was answered with.
func ExampleSender_Send() {
	h := &hook.Hook{ID: "ops", Secret: hook.NewSecret()}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		check, err := standardwebhooks.NewWebhook(h.Secret)
		if err != nil {
			fmt.Println(err)
			return
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil || check.Verify(body, r.Header) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Println(r.Header.Get("webhook-id"), string(body))
	}))
	defer receiver.Close()
	h.URL = receiver.URL

	// A receiver on this machine has to be allowed: by default, hooks go to public
	// addresses only.
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	err := hook.NewSender(loopback, "v1").Send(context.Background(), h, "ops-4096-0", []byte(`{"type":"fence.enter"}`))
	fmt.Println(err)
	// Output:
	// ops-4096-0 {"type":"fence.enter"}
	// <nil>
}
