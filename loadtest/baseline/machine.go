package main

import (
	"context"
	"embed"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"

	"github.com/jackc/pgx/v5"

	"cairn/internal/postgres"
)

//go:embed tutorial.py generous.py schema.sql haproxy.cfg
var files embed.FS

const (
	// spareFiles is what HAProxy opens beside its clients' connections: to the
	// servers it needs one for each request in progress, and keeps them.
	spareFiles = 3000
	// instances of each server, as the tutorial has it.
	instances = 3
)

// A machine is all that is measured: one PostGIS cluster with a database for
// each stack, the three stacks, and one HAProxy before them. A stack that is
// not asked does next to nothing, so all run from the beginning to the end.
type machine struct {
	dir            string
	cluster        *postgres.Cluster
	processes      []*process
	stacks         []*stack
	maxConnections int
}

// A frontend is a stack as HAProxy sees it.
type frontend struct {
	Name    string
	Listen  string
	Servers []string
	Writers []string // "" : the servers write, too
}

func startMachine(ctx context.Context, cairn string, stacks []string) (m *machine, err error) {
	dir, err := os.MkdirTemp("/var/tmp", "cairn-compare-")
	if err != nil {
		return nil, err
	}
	m = &machine{dir: dir}
	defer func() {
		if err != nil {
			m.stop()
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL's user passes through
		return nil, err
	}
	if err := m.unpack(); err != nil {
		return nil, err
	}
	if m.cluster, err = postgres.Start(ctx, filepath.Join(dir, "postgres"), slog.New(slog.DiscardHandler)); err != nil {
		return nil, err
	}
	if cairn, err = filepath.Abs(cairn); err != nil {
		return nil, err
	}
	var fronts []frontend
	for _, name := range stacks {
		start := m.startFlask
		if name == "cairn" {
			start = func(ctx context.Context, _ string) (*stack, frontend, error) { return m.startCairn(ctx, cairn) }
		}
		s, front, err := start(ctx, name)
		if err != nil {
			return nil, err
		}
		m.stacks, fronts = append(m.stacks, s), append(fronts, front)
	}
	return m, m.startProxy(ctx, fronts)
}

func (m *machine) unpack() error {
	for _, name := range []string{"tutorial.py", "generous.py"} {
		data, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(m.dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// startProxy starts HAProxy with as many connections as the open-file limit
// allows.
func (m *machine) startProxy(ctx context.Context, fronts []frontend) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the open-file limit: %w", err)
	}
	m.maxConnections = min(int(limit.Max), 50_000) - spareFiles //nolint:gosec // a limit, or infinity
	for i := range fronts {
		address, err := freeAddress()
		if err != nil {
			return err
		}
		fronts[i].Listen = address
		m.stacks[i].url = &url.URL{Scheme: "http", Host: address}
	}
	var text strings.Builder
	err := template.Must(template.ParseFS(files, "haproxy.cfg")).Execute(&text, map[string]any{
		"MaxConnections": m.maxConnections, "Frontends": fronts,
	})
	if err != nil {
		return err
	}
	config := filepath.Join(m.dir, "haproxy.cfg")
	if err := os.WriteFile(config, []byte(text.String()), 0o644); err != nil {
		return err
	}
	p, err := m.launch("haproxy", nil, haproxy, "-db", "-f", config)
	if err != nil {
		return err
	}
	for _, s := range m.stacks {
		if err := p.answers(ctx, s.url.String()+"/status"); err != nil {
			return err
		}
	}
	return nil
}

// stop ends all, the last started first, and removes the folder.
func (m *machine) stop() {
	for i := len(m.processes) - 1; i >= 0; i-- {
		m.processes[i].stop()
	}
	for _, s := range m.stacks {
		s.close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	if m.cluster != nil {
		_ = m.cluster.Stop(ctx)
	}
	_ = os.RemoveAll(m.dir)
}

// databaseURL is that of a database in the cluster.
func (m *machine) databaseURL(name string) (string, error) {
	u, err := url.Parse(m.cluster.URL())
	if err != nil {
		return "", err
	}
	u.Path = "/" + name
	return u.String(), nil
}

// createDatabase makes one for a stack.
func (m *machine) createDatabase(ctx context.Context, name string) (string, error) {
	conn, err := pgx.Connect(ctx, m.cluster.URL())
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "create database "+pgx.Identifier{name}.Sanitize()); err != nil {
		return "", fmt.Errorf("create the database %s: %w", name, err)
	}
	return m.databaseURL(name)
}

// versions are what was measured.
func (m *machine) versions(ctx context.Context) string {
	var parts []string
	if conn := m.stacks[0].conn; conn != nil {
		var v string
		if err := conn.QueryRow(ctx, "select 'PostgreSQL ' || current_setting('server_version') || ', PostGIS ' || postgis_lib_version()").Scan(&v); err == nil {
			parts = append(parts, v)
		}
	}
	for _, c := range [][]string{
		{haproxy, "-v"}, {gunicorn, "--version"},
		{python, "-c", "import sys, flask, psycopg2; print('Python', sys.version.split()[0] + ', Flask', flask.__version__ + ', psycopg2', psycopg2.__version__.split()[0])"},
	} {
		out, err := exec.CommandContext(ctx, c[0], c[1:]...).Output()
		if err != nil {
			continue
		}
		line, _, _ := strings.Cut(string(out), "\n")
		line, _, _ = strings.Cut(line, " - ")
		parts = append(parts, strings.TrimSpace(line))
	}
	return strings.Join(parts, "; ")
}
