//go:build e2ecluster

package cluster

import (
	"context"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cairn/internal/testkit"
	"cairn/internal/testrig"

	"github.com/jackc/pgx/v5"
)

// TestUpgrade replaces the version before by this one under load, in the order that
// docs/operating.md gives: the schema, the projector, query, the nodes of the queue one
// by one. Points are written and read all the while, by the services of before too, with
// the new schema under them. A service of before that starts with that schema says that
// it is too old.
//
// It needs the history of the repository, so it is in the long form only.
func TestUpgrade(t *testing.T) {
	if *rounds == 0 && *from == "" {
		return
	}
	r := newRig(t)
	r.database = emptyDatabase(t)
	program := versionBefore(t)
	r.program = program
	r.must("migrate")
	for i := range nodes {
		r.start(i)
	}
	r.roles()
	r.query.Ready()
	r.whole()
	l, g := testrig.NewLedger("upgrade"), &gauge{}
	end := l.WriteAcross(testrig.Across{Bases: r.bases(), Writers: writers, Pause: betweenPoints, Attempt: attempt, Heard: g.heard})
	before := testrig.Read(r.query.Base, readers)
	l.Reach(t, afterStrike)
	r.visible(l)
	step := func(name string, do func()) {
		t.Helper()
		g.take()
		do()
		l.Reach(t, afterStrike)
		r.visible(l)
		f := g.take()
		t.Logf("%-22s no ack for %4.1f s, %d attempts refused %v", name, f.writes.Seconds(), f.refusals, f.why)
	}

	r.program = cairnProgram
	var said string
	step("the schema", func() { said = r.must("migrate") })
	if strings.Contains(said, "went from version") {
		r.tooOld(program, "projector", "query")
	}
	old := r.projector
	step("the projector", func() {
		r.projector = r.role("projector", "--replay-age", replayAge)
		r.projector.Ready()
		old.MustStop()
	})
	old = r.query
	step("query", func() {
		r.query = r.role("query")
		r.query.Ready()
		before.Stop(t)
		old.MustStop()
	})
	after := testrig.Read(r.query.Base, readers)
	for i := range nodes {
		step(fmt.Sprintf("node %d", i+1), func() {
			r.nodes[i].MustStop()
			r.start(i)
			r.nodes[i].Ready()
		})
	}
	r.whole()
	end()
	after.Stop(t)
	l.Verify(t, r.query.Base)
	r.alike()
}

// must runs a command of Cairn's to its end, and returns what it says.
func (r *rig) must(args ...string) string {
	r.t.Helper()
	p := testrig.Command{Program: r.program, Args: args, Env: r.environment()}.Start(r.t)
	if code := p.Wait(testrig.StopBound); code != 0 {
		r.t.Fatalf("%s %v ended with code %d: %s", r.program, args, code, p.Stderr.Tail())
	}
	return p.Stdout.String()
}

// tooOld starts services of a version before the schema's, which must end and say why.
func (r *rig) tooOld(program string, roles ...string) {
	r.t.Helper()
	for _, role := range roles {
		p := testrig.Command{Program: program, Args: []string{role, "--listen", testrig.AnyPort, "--data", r.dir, "--nats-url", r.urls()}, Env: r.environment()}.Start(r.t)
		if code := p.Wait(testrig.StopBound); code == 0 || !strings.Contains(p.Stderr.String(), "upgrade Cairn") {
			r.t.Errorf("a %s of before on the new schema: code %d, %s", role, code, p.Stderr.Tail())
		}
	}
}

// versionBefore builds what is upgraded from: the commit that was asked for, the last
// release, or the last one with another schema.
func versionBefore(t *testing.T) (program string) {
	t.Helper()
	commit := *from
	if commit == "" {
		commit = git(t, "describe", "--tags", "--abbrev=0")
	}
	if commit == "" {
		if newest := git(t, "log", "-1", "--diff-filter=A", "--format=%H", "--", "schema/*.sql"); newest != "" {
			commit = newest + "^"
		}
	}
	hash := git(t, "rev-parse", "--verify", "--quiet", commit+"^{commit}")
	if hash == "" {
		t.Fatalf("the history here does not have the version before (%q): get it whole, or name a commit with -from", commit)
	}
	dir := testkit.Folder(t)
	if err := command("sh", "-c", fmt.Sprintf("git -C ../.. archive %s | tar -x -C %s", hash, dir)); err != nil {
		t.Fatal(err)
	}
	t.Logf("the version before is %s", git(t, "log", "-1", "--format=%h %ci", hash))
	program = filepath.Join(dir, "cairn-before")
	if err := testkit.Build(dir, program, "."); err != nil {
		t.Fatal(err)
	}
	return program
}

// git is what it says of this repository; "" where it cannot.
func git(t *testing.T, args ...string) string {
	t.Helper()
	out, _ := exec.Command("git", append([]string{"-C", "../.."}, args...)...).Output()
	return strings.TrimSpace(string(out))
}

// emptyDatabase is one without a schema. It is gone when the test has ended.
func emptyDatabase(t *testing.T) string {
	t.Helper()
	admin := testkit.Postgres(t)
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/") + "_empty"
	ask := func(ctx context.Context, sql string) {
		ctx, cancel := context.WithTimeout(ctx, testrig.SpeakBound)
		defer cancel()
		conn, err := pgx.Connect(ctx, admin)
		if err == nil {
			_, err = conn.Exec(ctx, sql)
			_ = conn.Close(ctx)
		}
		if err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	ask(t.Context(), "create database "+name)
	t.Cleanup(func() { ask(context.Background(), "drop database "+name+" with (force)") })
	return testkit.WithDatabase(admin, name)
}
