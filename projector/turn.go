package projector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cairn/bus"
	"cairn/internal/hosts"

	"github.com/jackc/pgx/v5"
)

// Two projectors at once are harmless, because of the fence; but they share one
// consumer, and each takes from it what the other waits for, so that neither gets far.
// So one of them works, and holds an advisory lock of the database; the others wait for
// it, for minutes or months. The lock is a courtesy: no guarantee rests on it.

// turnLock is its name.
const turnLock = "cairn projects"

// turnEvery is how often a projector that waits tries the lock.
const turnEvery = 250 * time.Millisecond

// turnSoon is how long the end of a connection takes that was ended.
const turnSoon = 20 * time.Millisecond

// endSelect ends who holds the turn.
const endSelect = `select pg_terminate_backend(pid) from pg_locks
	where locktype = 'advisory' and granted and database = (select oid from pg_database where datname = current_database())
		and classid::bigint = (hashtext($1)::bigint >> 32) & 4294967295 and objid::bigint = hashtext($1)::bigint & 4294967295 and pid <> pg_backend_pid()`

// await returns when it is this projector's turn. One that holds the turn and does not
// move on for fencePatience, though there is something to project, was stopped in the
// middle of its work: it is ended. alive is called as long as the database answers.
func (p *projector) await(ctx context.Context, conn *pgx.Conn, lineage hosts.Lineage, alive func()) error {
	mine, err := p.tryTurn(ctx, conn)
	if err == nil && !mine && p.backend != 0 {
		// It may be our own connection from before, whose end the server has not noticed.
		if _, err := conn.Exec(ctx, endSelect+` and pid = $2`, turnLock, int64(p.backend)); err != nil {
			return fmt.Errorf("end the connection of before: %w", err)
		}
		p.backend = 0
		rest(ctx, turnSoon)
		mine, err = p.tryTurn(ctx, conn)
	}
	if err != nil {
		return err
	}
	if !mine {
		p.cfg.Log.Info("another projector is at work: waiting for its end")
		p.problem.Store(nil)
		p.metrics.behind.Set(0) // the other's to tell
	}
	var at uint64
	moved := time.Now()
	for !mine {
		if err := p.noted(ctx, lineage); err != nil {
			return err
		}
		c, err := readCheckpoint(ctx, conn)
		if err != nil {
			return err
		}
		if c.sequence != at || !p.more(ctx, c.sequence) {
			at, moved = c.sequence, time.Now()
		}
		if time.Since(moved) > fencePatience {
			if err := endTurn(ctx, conn, p); err != nil {
				return err
			}
			moved = time.Now()
		}
		if !p.cfg.Bus.Leads() {
			return errors.New("another node leads the stream, and projects")
		}
		if rest(ctx, turnEvery); ctx.Err() != nil {
			return ctx.Err()
		}
		if mine, err = p.tryTurn(ctx, conn); err != nil {
			return err
		}
		alive()
		if mine {
			p.cfg.Log.Info("the other projector has ended: going on in its place")
		}
	}
	p.backend = conn.PgConn().PID()
	return p.noted(ctx, lineage)
}

func (p *projector) tryTurn(ctx context.Context, conn *pgx.Conn) (mine bool, err error) {
	if err = conn.QueryRow(ctx, `select pg_try_advisory_lock(hashtext($1))`, turnLock).Scan(&mine); err != nil {
		err = fmt.Errorf("ask whose turn it is: %w", err)
	}
	return mine, err
}

// more reports whether the stream has something behind a sequence.
func (p *projector) more(ctx context.Context, sequence uint64) bool {
	s, err := findStream(ctx, p.js, p.cfg)
	return err == nil && !bus.Adopting(s.CachedInfo()) && s.CachedInfo().State.LastSeq > sequence
}

// endTurn ends the connection of who holds the turn.
func endTurn(ctx context.Context, conn *pgx.Conn, p *projector) error {
	tag, err := conn.Exec(ctx, endSelect, turnLock)
	if err != nil {
		return fmt.Errorf("end a projector that does not move on: %w", err)
	}
	p.cfg.Log.Warn("another projector did not move on; ended its connection", "after", fencePatience, "connections", tag.RowsAffected())
	return nil
}
