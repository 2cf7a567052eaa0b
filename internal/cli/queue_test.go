package cli

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"cairn/bus"
	"cairn/internal/testkit"
)

// closedPort is where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A command that does not reach the queue says where it looked for it, why that failed,
// and which flag names another place; and no password.
func TestCommandsSayWhereTheyLookedForTheQueue(t *testing.T) {
	nobody := closedPort(t)
	database := "postgres://cairn@" + nobody + "/cairn"
	for _, args := range [][]string{
		{"keys", "add", "somebody"}, {"keys", "ls"}, {"keys", "rm", "somebody"},
		{"cluster", "status"}, {"cluster", "database", "--database-url", database},
		{"parked", "retry", "--all", "--database-url", database},
		{"rebuild", "--database-url", database}, {"salvage", "--database-url", database},
	} {
		t.Run(strings.Join(args[:min(2, len(args))], " "), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // it would wait for 10 s
			defer cancel()
			var out, problem bytes.Buffer
			s := &session{ctx: ctx, stdout: &out, stderr: &problem, log: &logBuffer{out: &bytes.Buffer{}}}
			code := execute(s, append(args, "--data", t.TempDir(), "--nats-url", "nats://admin:secret@"+nobody))
			said := problem.String()
			for _, text := range []string{"not reachable at nats://" + nobody, "connection refused", "--nats-url", "NATS_URL"} {
				if code != exitFailed || !strings.Contains(said, text) {
					t.Errorf("code %d, and it does not say %q: %s", code, text, said)
				}
			}
			if strings.Contains(said, "secret") {
				t.Errorf("it shows the password: %s", said)
			}
		})
	}
}

// One that the queue does not let in says that it is the password, and where that is.
func TestCommandsSayThatThePasswordIsWrong(t *testing.T) {
	queue := bus.Endpoint{URL: "nats://" + testkit.NATS(t).Addr(), User: bus.UserAdmin, Password: "wrong"}
	nc, err := bus.Reach(t.Context(), queue, slog.New(slog.DiscardHandler))
	if err == nil {
		nc.Close()
		t.Fatal("it was let in")
	}
	for _, text := range []string{queue.URL, "refuses the user admin", "--data", "--nats-passwords"} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("it does not say %q: %v", text, err)
		}
	}
}
