//go:build e2edeploy

package deploy

import (
	"testing"

	"cairn/internal/testrig"
)

// A backup of a Cairn under load, restored into an empty place, has all that was
// acknowledged before it began, each once, and continues from there.
func TestBackup(t *testing.T) {
	t.Parallel()
	const some = 500
	folder := t.TempDir()
	before, during := testrig.NewLedger("before"), testrig.NewLedger("during")

	old := newStack(t, "old")
	old.up()
	stop := before.Write(old.base, 8)
	before.Reach(t, some)
	stop()
	stop = during.Write(old.base, 8)
	defer stop()
	during.Reach(t, some)
	old.script("backup.sh", folder)
	during.Reach(t, some)
	stop()
	old.compose("down", "--volumes")

	fresh := newStack(t, "fresh")
	fresh.compose("up", "--detach", "--no-build", "postgres", "ingest")
	fresh.script("restore.sh", folder)
	fresh.up()
	before.Verify(t, fresh.base)
	after := testrig.NewLedger("after")
	stop = after.Write(fresh.base, 4)
	after.Reach(t, some)
	// The restored queue is known again, too.
	fresh.compose("restart", "ingest", "projector")
	after.Reach(t, some)
	stop()
	after.Verify(t, fresh.base)
	if _, err := fresh.tryScript("restore.sh", folder); err == nil {
		t.Error("a second restore, over what is there, is not refused")
	}
}

func (s *stack) tryScript(name, folder string) (string, error) {
	line := "docker compose"
	if _, err := command("docker", "compose", "version"); err != nil {
		line = "docker-compose"
	}
	env := append([]string{"COMPOSE=" + line, "COMPOSE_PROJECT_NAME=" + s.name, "NATS=" + nats}, s.env...)
	return commandIn(root, commandBound, env, "deploy/"+name, folder)
}

func (s *stack) script(name, folder string) {
	s.t.Helper()
	out, err := s.tryScript(name, folder)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Log(out)
}
