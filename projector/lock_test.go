package projector

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A lock is waited for as long as its holder works. One that is idle, as a connection
// is that was lost without a word, loses it.
func TestWaitForLock(t *testing.T) {
	const idle = 500 * time.Millisecond
	for name, tt := range map[string]struct {
		work string // of the holder, once it has the lock
		ends bool
	}{
		"the holder is idle": {"", true},
		"the holder works":   {`select pg_sleep(2); select pg_advisory_unlock_all()`, false},
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
				if tt.work != "" {
					_, err = holder.PgConn().Exec(t.Context(), tt.work).ReadAll()
				}
				worked <- err
			}()
			if err := waitForLock(t.Context(), other, segmentsLock, 200*time.Millisecond, idle); err != nil {
				t.Fatal(err)
			}
			if err := <-worked; err != nil {
				t.Errorf("the holder was disturbed at work: %v", err)
			}
			if ended := holder.Ping(t.Context()) != nil; ended != tt.ends {
				t.Errorf("the holder's connection was ended: %v", ended)
			}
			var left string
			if err := other.QueryRow(t.Context(), `show lock_timeout`).Scan(&left); err != nil || left != "0" {
				t.Errorf("the connection is left with a lock_timeout of %q, %v", left, err)
			}
		})
	}
}
