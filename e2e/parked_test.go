package e2e

import (
	"net/http"
	"strings"
	"testing"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// A parked creation whose point was deleted does not go in, and retry says so; with
// --replace it does.
func TestParkedOfADeletedPoint(t *testing.T) {
	data, database := testrig.DataFolder(t), testkit.Postgres(t)
	s := serve(t, data, "--database-url", database)
	send := func(status int, method, path, body string) string {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, s.Base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Prefer", "wait=20")
		answer, err := testrig.Send(request)
		if err != nil || answer.Status != status {
			t.Fatalf("%s %s: %v, %d %s; want %d", method, path, err, answer.Status, answer.Body, status)
		}
		return string(answer.Body)
	}
	send(http.StatusCreated, "POST", "/point", `{"id":"x","longitude":1,"latitude":2}`)
	send(http.StatusConflict, "POST", "/point", `{"id":"x","longitude":3,"latitude":4}`)
	send(http.StatusNoContent, "DELETE", "/point/x", "")
	retry := func(code int, told string, flags ...string) {
		t.Helper()
		p, got := run(t, append([]string{"parked", "retry", "--all", "--data", data, "--database-url", database, "--nats-url", s.NATS()}, flags...)...)
		if got != code || !strings.Contains(p.Stdout.String()+p.Stderr.String(), told) {
			t.Errorf("exit code %d, want %d and %q: %s%s", got, code, told, p.Stdout.Tail(), p.Stderr.Tail())
		}
	}
	retry(1, "stays parked: its point was deleted")
	send(http.StatusGone, "GET", "/points/x", "")
	retry(1, "1 of 1 did not go in") // it is still there
	retry(0, ": created", "--replace")
	if got := send(http.StatusOK, "GET", "/points/x", ""); !strings.Contains(got, "[3,4]") {
		t.Errorf("it is %s", got)
	}
	retry(0, "") // there is nothing
}
