package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"cairn/internal/datadir"
)

// killDelay bounds how long a command's pipes may stay open after it was ended.
const killDelay = 5 * time.Second

// An owner is the user that Postgres runs as and whose its files are.
type owner struct {
	uid, gid uint32
	name     string
	switched bool // it is not us: we are root, which Postgres refuses
}

// ownerOf decides who runs the cluster in dir: ourselves; but for root whoever
// it belongs to already, else the user postgres.
func ownerOf(dir string) (owner, error) {
	self := owner{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}
	info, err := os.Lstat(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return owner{}, fmt.Errorf("look at the database's folder: %w", err)
	}
	exists := err == nil
	if exists && !info.IsDir() {
		return owner{}, fmt.Errorf("%s is not a folder: move it away, or choose another data folder with --data", dir)
	}
	var stat *syscall.Stat_t
	if exists {
		stat = info.Sys().(*syscall.Stat_t)
	}
	switch {
	case self.uid != 0 && exists && stat.Uid != self.uid:
		return owner{}, fmt.Errorf("%s belongs to the user %s: run cairn as that user or as root, or choose another data folder with --data", dir, userName(stat.Uid))
	case self.uid != 0:
		self.name = userName(self.uid)
		return self, nil
	case exists && stat.Uid != 0:
		return owner{stat.Uid, stat.Gid, userName(stat.Uid), true}, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return owner{}, fmt.Errorf("PostgreSQL refuses to run as root, and there is no user postgres to run it as: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return owner{}, fmt.Errorf("id of the user postgres: %w", err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return owner{}, fmt.Errorf("group of the user postgres: %w", err)
	}
	return owner{uint32(uid), uint32(gid), "postgres", true}, nil
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

// makeFolder makes a folder that only the owner can enter, or checks that it is
// one. Who could put a link or a folder of his own there could read the rows.
func (o owner) makeFolder(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || stat.Uid != o.uid && stat.Uid != uint32(os.Geteuid()) {
		return fmt.Errorf("%s is not a folder of the user %s", dir, o.name)
	}
	if stat.Uid != o.uid {
		if err := os.Lchown(dir, int(o.uid), int(o.gid)); err != nil {
			return err
		}
	}
	if info.Mode().Perm() != 0o700 {
		return os.Chmod(dir, 0o700)
	}
	return nil
}

// checkReach says which folder keeps the owner from its files.
func (o owner) checkReach(dir string) error {
	if blocked := datadir.Blocked(dir, o.uid, o.gid); o.switched && blocked != "" {
		return fmt.Errorf("the user %s, who runs PostgreSQL for root, cannot enter %s, where the data folder is: "+
			"choose another with --data (such as --data /var/lib/cairn), or run cairn as another user", o.name, blocked)
	}
	return nil
}

// command is a command to run as the owner in dir. When ctx ends, it and what
// it started are killed, but for what made a session of its own, as a server
// that pg_ctl starts does.
func (o owner) command(ctx context.Context, dir, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = cleanEnv()
	// A group of its own keeps a terminal's Ctrl-C from it: pg_ctl would end
	// the server, and it is for us to say when.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if o.switched {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: o.uid, Gid: o.gid}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killDelay
	return cmd
}

// run runs the command and returns what it said in the error, if it fails.
func run(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// cleanEnv is our environment without what would point Postgres at another
// cluster or change the language of its messages.
func cleanEnv() []string {
	env := []string{"LC_ALL=C"}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "PG") && !strings.HasPrefix(name, "LC_") && !strings.HasPrefix(name, "LANG") {
			env = append(env, v)
		}
	}
	return env
}
