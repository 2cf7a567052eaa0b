package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// dataMajor is the version of PostgreSQL that made the data directory.
func dataMajor(data string) (int, error) {
	text, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

func newDataOf(dir string) string { return dataOf(dir) + ".new" }

// create makes the data directory, unless there is one. It is made under
// another name and renamed when it is whole, so that a crash on the way leaves
// nothing that looks like a cluster.
func (c *Cluster) create(ctx context.Context) error {
	if _, err := dataMajor(c.data()); err == nil {
		return nil
	}
	if _, err := os.Lstat(c.data()); err == nil {
		return fmt.Errorf("%s is there but holds no cluster: move it away", c.data())
	}
	fresh := newDataOf(c.dir)
	// An initdb whose Cairn was killed may still be at it.
	if err := endProcesses(ctx, c.dir, fresh); err != nil {
		return err
	}
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	c.log.Info("making a database cluster", "folder", c.dir, "postgresql", c.inst.major, "user", c.owner.name)
	// Trust is for whoever enters the socket's folder: the owner, and root.
	args := []string{
		"-D", filepath.Base(fresh), "-U", role, "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums",
		"--auth-local=trust", "--auth-host=reject", "--no-instructions",
	}
	if c.unsafe {
		args = append(args, "--no-sync")
	}
	if err := run(c.owner.command(ctx, c.dir, c.inst.program("initdb"), args...)); err != nil {
		return err
	}
	path := filepath.Join(fresh, "postgresql.conf")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := c.owner.writeFile(path, string(text)+include); err != nil {
		return err
	}
	if err := c.owner.writeFile(filepath.Join(fresh, settingsName), ""); err != nil {
		return err
	}
	if err := os.Rename(fresh, c.data()); err != nil {
		return err
	}
	return syncFolder(c.dir)
}

// syncFolder makes what was renamed in the folder last.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
