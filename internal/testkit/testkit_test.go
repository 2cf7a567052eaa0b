package testkit

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"cairn/internal/postgres"
)

func TestMain(m *testing.M) { Main(m) }

func TestPostgresIsFreshPerTest(t *testing.T) {
	var urls []string
	for range 2 {
		t.Run("", func(t *testing.T) {
			url := Postgres(t)
			urls = append(urls, url)
			conn, err := pgx.Connect(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			// Left open: the drop must not mind.
			var sequence int64
			if err := conn.QueryRow(t.Context(), "update checkpoint set sequence = sequence + 1 returning sequence").Scan(&sequence); err != nil {
				t.Fatal(err)
			}
			if sequence != 1 {
				t.Errorf("the checkpoint was %d, not 0: another test's database", sequence-1)
			}
		})
	}
	if _, err := pgx.Connect(t.Context(), urls[0]); err == nil {
		t.Errorf("%s outlives its test", urls[0])
	}
}

func TestPostgresInParallel(t *testing.T) {
	for range 4 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			conn, err := pgx.Connect(t.Context(), Postgres(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := conn.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOwnCluster(t *testing.T) {
	c := OwnCluster(t)
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := pgx.Connect(t.Context(), c.URL()); err == nil {
		t.Error("the cluster answers after Stop")
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), c.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), "select * from points"); err != nil {
		t.Error(err)
	}
}

func TestOrphansAreRemoved(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	dead := cmd.Process.Pid
	orphan, err := os.MkdirTemp(tempDir(), folderPrefix+strconv.Itoa(dead)+"-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(orphan, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(orphan, clusterName)
	if _, err := postgres.Start(t.Context(), dir, Log(t), postgres.Unsafe()); err != nil {
		t.Fatal(err)
	}
	clearOrphanFolders()
	if _, ok := postgres.Find(dir); ok {
		t.Error("the orphan still runs")
	}
	if _, err := os.Stat(orphan); !os.IsNotExist(err) {
		t.Errorf("the orphan's folder is still there: %v", err)
	}
}

func TestLogOutlivesTheTest(t *testing.T) {
	done := make(chan struct{})
	t.Run("", func(t *testing.T) {
		log := Log(t)
		go func() {
			defer close(done)
			<-t.Context().Done()
			for range 1000 {
				log.Info("at the end and after")
			}
		}()
	})
	<-done
}

func TestEventually(t *testing.T) {
	n := 0
	Eventually(t, time.Minute, "three polls", func() bool { n++; return n == 3 })
	if n != 3 {
		t.Errorf("cond was asked %d times", n)
	}
}
