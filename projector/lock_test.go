package projector

import (
	"fmt"
	"testing"
	"time"

	"cairn/internal/testkit"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// unread has more in its answer than fits between a server and a client that does not read.
const unread = `select repeat('x', 1000) from generate_series(1, 200000)`

// unfed waits for rows that do not come.
const unfed = `create temporary table t (n int); copy t from stdin`

// A lock is waited for as long as its holder works. One that is idle, as a connection
// is that was lost without a word, loses it.
func TestWaitForLock(t *testing.T) {
	const idle = 500 * time.Millisecond
	for name, tt := range map[string]struct {
		work string // of the holder, once it has the lock
		ends bool
	}{
		"the holder is idle":                  {"", true},
		"the holder is idle in a transaction": {`begin; select 1`, true},
		"the holder does not read":            {unread, true},
		"the holder waits for rows":           {unfed, true},
		"the holder works":                    {`select pg_sleep(2); select pg_advisory_unlock_all()`, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			connect := func() *pgx.Conn {
				conn, err := pgx.ConnectConfig(t.Context(), b.pool.Config().ConnConfig.Copy())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = conn.Close(t.Context()) })
				return conn
			}
			holder, other := connect(), connect()
			if err := waitForLock(t.Context(), holder, segmentsLock, time.Second, idle); err != nil {
				t.Fatal(err)
			}
			worked := make(chan error, 1)
			go func() {
				var err error
				switch tt.work {
				case unread, unfed:
					message, _ := (&pgproto3.Query{String: tt.work}).Encode(nil)
					_, err = holder.PgConn().Conn().Write(message)
				case "":
				default:
					_, err = holder.PgConn().Exec(t.Context(), tt.work).ReadAll()
				}
				worked <- err
			}()
			state := func(is string) bool {
				return b.count(fmt.Sprintf(`select count(*) from pg_stat_activity where pid = %d and state %s`, holder.PgConn().PID(), is)) > 0
			}
			if tt.work != "" {
				testkit.Eventually(t, patience, "the holder to begin", func() bool { return state("<> 'idle'") })
			}
			if err := waitForLock(t.Context(), other, segmentsLock, 200*time.Millisecond, idle); err != nil {
				t.Fatal(err)
			}
			if err := <-worked; err != nil {
				t.Errorf("the holder was disturbed at work: %v", err)
			}
			// A server process that ends gives up its locks a moment before it is gone from the list.
			if tt.ends {
				testkit.Eventually(t, patience, "the holder's connection to end", func() bool { return !state("is not null") })
			} else if !state("is not null") {
				t.Error("the holder's connection was ended")
			}
			var timeout string
			if err := other.QueryRow(t.Context(), `show lock_timeout`).Scan(&timeout); err != nil || timeout != "0" {
				t.Errorf("the connection is left with a lock_timeout of %q, %v", timeout, err)
			}
		})
	}
}
