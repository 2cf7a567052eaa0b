package postgres_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"cairn/internal/postgres"
	"cairn/internal/testkit"
)

const (
	// startDirEnv makes this binary start a cluster there and then wait to be
	// killed.
	startDirEnv = "CAIRN_TEST_START"
	patience    = time.Minute
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(startDirEnv); dir != "" {
		c, err := postgres.Start(context.Background(), dir, slog.New(slog.DiscardHandler), postgres.Unsafe())
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("URL", c.URL())
		select {}
	}
	testkit.Main(m)
}

// folder is one that the user postgres can reach and that is gone, with what
// runs in it, when the test ends.
func folder(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(testkit.Folder(t), "postgres")
	t.Cleanup(func() {
		if err := postgres.Destroy(context.Background(), dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func start(t *testing.T, dir string) *postgres.Cluster {
	t.Helper()
	c, err := postgres.Start(t.Context(), dir, testkit.Log(t), postgres.Unsafe())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// query returns one value as text.
func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var s string
	if err := conn.QueryRow(t.Context(), sql).Scan(&s); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return s
}

func exec1(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestStartStopStart(t *testing.T) {
	dir := folder(t)
	if url, ok := postgres.Find(dir); ok {
		t.Errorf("found %s before there is a cluster", url)
	}
	c := start(t, dir)
	for setting, want := range map[string]string{
		"server_encoding": "UTF8", "lc_ctype": "C.UTF-8", "data_checksums": "on", "listen_addresses": "",
		"shared_buffers": "128MB", "max_wal_size": "4GB", "jit": "off", "fsync": "off",
		"wal_compression": "lz4", // Debian builds with it
	} {
		if got := query(t, c.URL(), "show "+setting); got != want {
			t.Errorf("%s: got %q, want %q", setting, got, want)
		}
	}
	exec1(t, c.URL(), "create extension postgis; create table t as select 'kept' as v")
	if url, ok := postgres.Find(dir); !ok || url != c.URL() {
		t.Errorf("Find: got %q, %v, want %q", url, ok, c.URL())
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if url, ok := postgres.Find(dir); ok {
		t.Errorf("found %s after Stop", url)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Errorf("a second Stop: %v", err)
	}
	c = start(t, dir)
	if got := query(t, c.URL(), "select v from t"); got != "kept" {
		t.Errorf("after a restart: got %q", got)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the cluster's folder: got %v, %v, want mode 0700", info.Mode(), err)
	}
}

// startElsewhere starts a cluster in another process and returns that process
// and the cluster's URL.
func startElsewhere(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), startDirEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var line bytes.Buffer
	buf := make([]byte, 1)
	for !strings.HasSuffix(line.String(), "\n") {
		if _, err := out.Read(buf); err != nil {
			t.Fatalf("the other process: %v: %s", err, &line)
		}
		line.Write(buf)
	}
	url, ok := strings.CutPrefix(strings.TrimSpace(line.String()), "URL ")
	if !ok {
		t.Fatalf("the other process: %s", &line)
	}
	return cmd, url
}

func TestAdoptAfterKill(t *testing.T) {
	dir := folder(t)
	cmd, url := startElsewhere(t, dir)
	began := query(t, url, "select pg_postmaster_start_time()::text")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	c := start(t, dir)
	if got := query(t, c.URL(), "select pg_postmaster_start_time()::text"); got != began {
		t.Errorf("the server was not adopted: it began at %s, before that at %s", got, began)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, ok := postgres.Find(dir); ok {
		t.Error("Stop left the adopted server running")
	}
}

// A terminal's Ctrl-C goes to the foreground's process group.
func TestOwnSession(t *testing.T) {
	c := start(t, folder(t))
	pid := c.PID()
	group, err := syscall.Getpgid(pid)
	if err != nil {
		t.Fatal(err)
	}
	if group == syscall.Getpgrp() {
		t.Error("the server is in our process group")
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// pid (comm) state ppid pgrp session …; see proc(5)
	fields := strings.Fields(string(stat))
	if session := fields[5]; session != strconv.Itoa(pid) {
		t.Errorf("the server is in session %s, not its own", session)
	}
}

func TestStalePidFile(t *testing.T) {
	dir := folder(t)
	c := start(t, dir)
	exec1(t, c.URL(), "create table t as select 'kept' as v")
	path := filepath.Join(dir, "cluster", "postmaster.pid")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	killAll(t, c)
	for name, pid := range map[string]int{"a process of ours has the number": os.Getpid(), "nobody has it": 1 << 22} {
		text := strconv.Itoa(pid) + string(old[bytes.IndexByte(old, '\n'):])
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if url, ok := postgres.Find(dir); ok {
			t.Errorf("%s: found %s", name, url)
		}
		c = start(t, dir)
		if got := query(t, c.URL(), "select v from t"); got != "kept" {
			t.Errorf("%s: got %q", name, got)
		}
		killAll(t, c)
	}
}

// killAll ends the postmaster with SIGKILL; its children end with it.
func killAll(t *testing.T, c *postgres.Cluster) {
	t.Helper()
	pid := c.PID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, "the postmaster is gone", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
		return err != nil
	})
}

// Right after the postmaster's death its backends may still run.
func TestStartOverOrphans(t *testing.T) {
	dir := folder(t)
	c := start(t, dir)
	conn, err := pgx.Connect(t.Context(), c.URL())
	if err != nil {
		t.Fatal(err)
	}
	busy := make(chan error, 1)
	go func() { // computes and never looks whether the postmaster lives
		_, err := conn.Exec(context.Background(), "select count(*) from generate_series(1, 20000000000)")
		busy <- err
	}()
	testkit.Eventually(t, patience, "the query runs", func() bool {
		return query(t, c.URL(), "select count(*)::text from pg_stat_activity where query like '%20000000000)'and state = 'active' and pid <> pg_backend_pid()") == "1"
	})
	if err := syscall.Kill(c.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c = start(t, dir)
	if err := <-busy; err == nil {
		t.Error("the orphan finished")
	}
	if got := query(t, c.URL(), "select 'up'"); got != "up" {
		t.Error(got)
	}
}

func TestInterruptedCreation(t *testing.T) {
	dir := folder(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), startDirEnv+"="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(dir, "cluster.new")
	testkit.Eventually(t, patience, "initdb is at work", func() bool {
		_, err := os.Stat(filepath.Join(fresh, "PG_VERSION"))
		return err == nil
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	c := start(t, dir)
	if got := query(t, c.URL(), "select 'whole'"); got != "whole" {
		t.Error(got)
	}
	if _, err := os.Stat(fresh); !os.IsNotExist(err) {
		t.Errorf("the half-made cluster is still there: %v", err)
	}
}

func TestLongAndOddPaths(t *testing.T) {
	for name, dir := range map[string]string{
		"long": strings.Repeat("long/", 30) + "pg",
		"odd":  `it's "a", $HOME, back\slash & café %s?x=y#z`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(folder(t), dir)
			if os.Geteuid() == 0 { // the folder that cleans up after us is in the way
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			t.Cleanup(func() {
				if err := postgres.Destroy(context.Background(), dir); err != nil {
					t.Error(err)
				}
			})
			c := start(t, dir)
			if got := query(t, c.URL(), "select current_database()"); got != "cairn" {
				t.Errorf("got %q", got)
			}
			if url, ok := postgres.Find(dir); !ok || url != c.URL() {
				t.Errorf("Find: got %q, %v, want %q", url, ok, c.URL())
			}
			if err := c.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOtherMajor(t *testing.T) {
	dir := folder(t)
	data := filepath.Join(dir, "cluster")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := postgres.Start(t.Context(), dir, testkit.Log(t))
	if err == nil || !strings.Contains(err.Error(), "was made by PostgreSQL 9, but only PostgreSQL") {
		t.Errorf("got %v", err)
	}
}

func TestUnreachableFolder(t *testing.T) {
	closed := filepath.Join(testkit.Folder(t), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(closed, "postgres")
	c, err := postgres.Start(t.Context(), dir, testkit.Log(t), postgres.Unsafe())
	if os.Geteuid() != 0 { // ourselves can reach it
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), "cannot enter "+closed) || !strings.Contains(err.Error(), "--data") {
		t.Errorf("got %v", err)
	}
}

// Whenever in a start the stop comes, no server is left behind.
func TestCanceledStart(t *testing.T) {
	dir := folder(t)
	if err := start(t, dir).Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	const moments, step = 10, 2 // step: looks from one moment to the next
	for moment := range moments {
		ctx, cancel := context.WithCancel(t.Context())
		type result struct {
			cluster *postgres.Cluster
			err     error
		}
		done := make(chan result, 1)
		go func() {
			c, err := postgres.Start(ctx, dir, testkit.Log(t), postgres.Unsafe())
			done <- result{c, err}
		}()
		looks := 0
		testkit.Eventually(t, patience, "the server comes up", func() bool {
			if _, err := os.Stat(filepath.Join(dir, "cluster", "postmaster.pid")); err == nil {
				looks++
			}
			return looks > moment*step
		})
		cancel()
		r := <-done
		if r.err == nil { // it was faster
			if err := r.cluster.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if url, ok := postgres.Find(dir); ok {
			t.Errorf("moment %d: a start that was given up left %s", moment, url)
		}
	}
}

func TestWatch(t *testing.T) {
	c := start(t, folder(t))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		c.Supervise(ctx)
		close(ended)
	}()
	old := c.PID()
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, "another server runs", func() bool { return c.PID() != old })
	if got := query(t, c.URL(), "select 'up'"); got != "up" {
		t.Error(got)
	}
	cancel()
	<-ended
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// The suite runs as root in containers; users mostly run as themselves.
func TestAsAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		return // then all the other tests do
	}
	parent := testkit.Folder(t)
	dir := filepath.Join(parent, "postgres")
	t.Cleanup(func() {
		if err := postgres.Destroy(context.Background(), dir); err != nil {
			t.Error(err)
		}
	})
	const uid, gid = 65534, 65534 // nobody, on Debian
	if err := os.Chown(parent, uid, gid); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(parent, "program") // go test's own folder is closed
	text, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, text, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Dir = parent
	cmd.Env = append(os.Environ(), startDirEnv+"="+dir, "HOME="+parent)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var url string
	testkit.Eventually(t, patience, "a cluster runs as nobody", func() bool {
		found, ok := postgres.Find(dir)
		url = found
		if !ok {
			return false
		}
		conn, err := pgx.Connect(t.Context(), url)
		if err == nil {
			_ = conn.Close(t.Context())
		}
		return err == nil
	})
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	info, err := os.Stat(filepath.Join(dir, "cluster"))
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Sys().(*syscall.Stat_t).Uid; got != uid {
		t.Errorf("the cluster belongs to %d, not to %d", got, uid)
	}
	// Root adopts it as it is.
	c := start(t, dir)
	if c.URL() != url {
		t.Errorf("root uses %s, not %s", c.URL(), url)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}
