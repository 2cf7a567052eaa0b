package testkit

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"cairn/internal/postgres"
)

// prepared is the folder of a stopped cluster that has Cairn's schema: to copy it takes a
// tenth of the time that initdb, PostGIS and the schema take.
var prepared = preparedCluster{make: sync.OnceValues(makePrepared)}

type preparedCluster struct {
	make func() (folder string, err error)
	used bool
}

// Prepare puts a stopped cluster with Cairn's schema into dir, which must not exist. It is
// one that could have been made there: every file is a copy of its own.
func Prepare(t testing.TB, dir string) {
	t.Helper()
	prepared.used = true
	folder, err := prepared.make()
	if err != nil {
		t.Fatalf("prepare a cluster: %v", err)
	}
	if out, err := exec.Command("cp", "-a", "--reflink=auto", filepath.Join(folder, clusterName), dir).CombinedOutput(); err != nil {
		t.Fatalf("copy the prepared cluster: %v: %s", err, out)
	}
}

func makePrepared() (folder string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	if folder, err = makeFolder(); err != nil {
		return "", err
	}
	cluster, err := postgres.Start(ctx, filepath.Join(folder, clusterName), slog.New(slog.DiscardHandler), postgres.Unsafe())
	if err != nil {
		return folder, err
	}
	if err := migrate(ctx, cluster.URL()); err != nil {
		return folder, err
	}
	return folder, cluster.Stop(ctx)
}

// remove removes the cluster that was prepared, if one was.
func (p *preparedCluster) remove() {
	if !p.used {
		return
	}
	folder, err := p.make()
	if err == nil {
		err = os.RemoveAll(folder)
	} else if folder != "" { // it may run
		err = postgres.Destroy(context.Background(), filepath.Join(folder, clusterName))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testkit: remove the prepared cluster:", err)
	}
}
