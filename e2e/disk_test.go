package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// A data folder whose disk has no room, for bytes or for files: /readyz and a metric say
// so, writes are refused with the reason, and what was acknowledged is read. When there
// is room again service resumes on its own, private cluster included.
func TestDataFolderWithoutRoom(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a disk for the private cluster too; bus/server and internal/datadir test the rest as any user")
	}
	dir, _ := testkit.SmallDisk(t, "size=1g,nr_inodes=20000")
	s := serve(t, testrig.DataFolderAt(t, dir))
	filler := filepath.Join(dir, "filler")
	_, before := testrig.MustPost(t, s.Base+"/point", paris)
	s.Settled()
	acknowledged := writeOn(t, s)
	for _, test := range []struct {
		name  string
		spoil func(t *testing.T)
		says  string
	}{
		{"bytes", func(t *testing.T) { testkit.Fill(t, filler, 2<<10) }, "the disk is full: only 0 MiB are free"},
		{"files", func(t *testing.T) { useFiles(t, filler) }, "the disk is full: only 0 more files"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.spoil(t)
			testkit.Eventually(t, testrig.Patience, "/readyz says it", func() bool {
				a, err := testrig.Get(t.Context(), s.Base+"/readyz")
				return err == nil && a.Status == http.StatusServiceUnavailable && strings.Contains(string(a.Body), "the data folder: "+test.says)
			})
			if line := testrig.Metric(t, s.Base, "cairn_data_folder_writable"); line != "cairn_data_folder_writable 0\n" {
				t.Errorf("the metric is %q", line)
			}
			testkit.Eventually(t, testrig.Patience, "a write is refused with the reason", func() bool {
				a, err := testrig.Do(t.Context(), http.MethodPost, s.Base+"/point", "application/json", strings.NewReader(paris))
				return err == nil && a.Status == http.StatusServiceUnavailable && a.Header.Get("Retry-After") != "" && strings.Contains(string(a.Body), test.says)
			})
			testrig.MustGet(t, fmt.Sprintf("%s/points/%v", s.Base, before.ID), nil)
			if err := os.RemoveAll(filler); err != nil {
				t.Fatal(err)
			}
			s.Ready()
			_, after := testrig.MustPost(t, s.Base+"/point", paris)
			s.Settled()
			testrig.MustGet(t, fmt.Sprintf("%s/points/%v", s.Base, after.ID), nil)
		})
	}
	ids := acknowledged()
	s.Settled()
	there := map[any]bool{}
	for _, f := range testrig.AllPoints(t, s.Base) {
		there[f.ID] = true
	}
	for _, id := range ids {
		if !there[id] {
			t.Errorf("the point %v was acknowledged and is lost", id)
		}
	}
	t.Logf("%d points were acknowledged", len(ids))
}

// writeOn writes one point after the other until the result is called, which returns the
// ids of those that were acknowledged.
func writeOn(t *testing.T, s *testrig.Server) (acknowledged func() []any) {
	var ids []any
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			a, err := testrig.Do(ctx, http.MethodPost, s.Base+"/point", "application/json", strings.NewReader(paris))
			var one testrig.Accepted
			if err == nil && a.Status == http.StatusAccepted && testrig.Decode(a.Body, &one) == nil {
				ids = append(ids, one.ID)
			}
		}
	}()
	return func() []any {
		cancel()
		<-ended
		return ids
	}
}

// useFiles makes empty files in a folder until no more can be made.
func useFiles(t *testing.T, folder string) {
	t.Helper()
	err := os.Mkdir(folder, 0o755)
	for n := 0; err == nil; n++ {
		err = os.WriteFile(filepath.Join(folder, strconv.Itoa(n)), nil, 0o600)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

// A data folder that was made read-only for its user is told of, too.
func TestDataFolderMadeReadOnly(t *testing.T) {
	dir := testrig.DataFolder(t)
	command := cairn("serve", "--listen", testrig.AnyPort, "--nats-listen", testrig.AnyPort, "--data", dir)
	if os.Geteuid() == 0 { // whom no mode of a folder stops
		command = asPostgres(t, command, dir)
	}
	s := command.Serve(t)
	testrig.MustPost(t, s.Base+"/point", paris)
	s.Settled()
	says := func(what string) func() bool {
		return func() bool {
			a, err := testrig.Get(t.Context(), s.Base+"/readyz")
			return err == nil && strings.Contains(string(a.Body), what)
		}
	}
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, testrig.Patience, "/readyz says it", says("the data folder: nothing can be written"))
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.Ready()
	testrig.MustPost(t, s.Base+"/point", paris)
	s.Leave()
}

// asPostgres has the user postgres run the command, and own the folder.
func asPostgres(t *testing.T, c testrig.Command, folder string) testrig.Command {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	program := filepath.Join(testkit.Folder(t), "cairn") // ours is where only root goes
	if err := errors.Join(os.Chown(folder, uid, gid), os.Link(c.Program, program), os.Chmod(program, 0o755)); err != nil {
		t.Fatal(err)
	}
	c.Args = append([]string{"--reuid", u.Uid, "--regid", u.Gid, "--clear-groups", program}, c.Args...)
	c.Program = "setpriv"
	return c
}
