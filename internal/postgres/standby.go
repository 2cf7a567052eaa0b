package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// Standby makes a standby of a cluster in dir, which follows it through a slot of
// that name, and starts it: for tests of what happens when it is promoted.
func Standby(ctx context.Context, primary *Cluster, dir, slot string, log *slog.Logger) (*Cluster, error) {
	c := &Cluster{log: log, unsafe: primary.unsafe}
	if err := c.prepare(dir); err != nil {
		return nil, err
	}
	err := run(c.owner.command(ctx, c.dir, c.inst.program("pg_basebackup"), "-h", primary.socketDir, "-p", port, "-U", role,
		"-D", filepath.Base(c.data()), "-R", "-X", "stream", "-c", "fast", "--no-sync", "-C", "-S", slot))
	if err != nil {
		return nil, fmt.Errorf("copy the cluster in %s: %w", primary.dir, err)
	}
	return c, c.Start(ctx)
}

// Follow makes the standby, which must be stopped, follow another primary through a
// slot that is there.
func (c *Cluster) Follow(primary *Cluster, slot string) error {
	file := filepath.Join(c.data(), "postgresql.auto.conf")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var kept []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "primary_") {
			kept = append(kept, line)
		}
	}
	kept = append(kept, fmt.Sprintf("primary_conninfo = 'user=%s host=%s port=%s'\nprimary_slot_name = '%s'\n", role, primary.socketDir, port, slot))
	if err := c.owner.writeFile(file, strings.Join(kept, "")); err != nil {
		return err
	}
	return c.owner.writeFile(filepath.Join(c.data(), "standby.signal"), "")
}

// Promote makes the standby a primary, and returns when it is.
func (c *Cluster) Promote(ctx context.Context) error {
	return run(c.owner.command(ctx, c.dir, c.inst.program("pg_ctl"), "promote", "-w", "-t", "60", "-D", filepath.Base(c.data())))
}

// Kill ends the cluster as the machine's end would: at once, with nothing written any
// more.
func (c *Cluster) Kill(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	return killProcesses(ctx, c.dir, c.data())
}

// ServersURL is where clients connect that may use any of the clusters.
func ServersURL(clusters ...*Cluster) string {
	var folders, ports []string
	for _, c := range clusters {
		folders, ports = append(folders, c.socketDir), append(ports, port)
	}
	return fmt.Sprintf("postgres://%s@/%s?host=%s&port=%s", role, database, strings.Join(folders, ","), strings.Join(ports, ","))
}
