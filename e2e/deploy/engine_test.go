//go:build e2edeploy

package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// root is the repository, seen from here.
	root = "../.."
	// startBound is how long an engine may take to answer.
	startBound = time.Minute
	// pullBound is for one image; without a registry it fails much sooner.
	pullBound = 10 * time.Minute
	// commandBound is for any other command: the longest builds the image.
	commandBound = 20 * time.Minute
	// lookEvery is how often the engine's start is looked at.
	lookEvery = 100 * time.Millisecond
)

func TestMain(m *testing.M) { os.Exit(prepareAndRun(m)) }

func prepareAndRun(m *testing.M) int {
	stop, err := openEngine()
	if err == nil {
		defer stop()
		err = prepareImages()
	}
	if err == nil {
		err = buildNats()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "deploy:", err)
		return 1
	}
	return m.Run()
}

// cache is where what is expensive to make stays between runs.
func cache() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "cairn-e2e-deploy")
	return dir, os.MkdirAll(dir, 0o755)
}

// openEngine finds an engine, or starts one. The environment then names it.
func openEngine() (stop func(), err error) {
	if _, err := command("docker", "info"); err == nil {
		return func() {}, nil
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("no Docker engine answers, and only root can start one")
	}
	dir, err := cache()
	if err != nil {
		return nil, err
	}
	run, err := os.MkdirTemp("", "cairn-docker-")
	if err != nil {
		return nil, err
	}
	socket := "unix://" + filepath.Join(run, "docker.sock")
	log, err := os.Create(filepath.Join(run, "log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("dockerd", "--host", socket, "--pidfile", filepath.Join(run, "pid"), "--exec-root", filepath.Join(run, "exec"),
		"--data-root", filepath.Join(dir, "docker"))
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		_ = log.Close()
		// The engine leaves its own network namespace mounted there.
		_ = syscall.Unmount(filepath.Join(run, "exec/netns/default"), syscall.MNT_DETACH)
		_ = os.RemoveAll(run)
	}
	if err := os.Setenv("DOCKER_HOST", socket); err != nil {
		return nil, err
	}
	deadline := time.NewTimer(startBound)
	defer deadline.Stop()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		if _, err := command("docker", "info"); err == nil {
			return stop, nil
		}
		select {
		case err := <-ended:
			text, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("dockerd has ended: %w\n%s", err, text)
		case <-deadline.C:
			stop()
			return nil, fmt.Errorf("dockerd does not answer within %v", startBound)
		case <-ticker.C:
		}
	}
}

// command runs a command and returns what it printed, errors included.
func command(name string, args ...string) (string, error) {
	return commandIn("", commandBound, nil, name, args...)
}

func commandIn(dir string, bound time.Duration, env []string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out.String())
	}
	return out.String(), nil
}

// builder is the environment for building: without the buildx plugin, a new
// docker builds by asking for the old builder only.
func builder() []string {
	if _, err := command("docker", "buildx", "version"); err == nil {
		return nil
	}
	return []string{"DOCKER_BUILDKIT=0"}
}

// nats is the CLI that looks into the queue.
var nats string

func buildNats() error {
	path, err := filepath.Abs(filepath.Join(root, "bin/nats"))
	if err != nil {
		return err
	}
	nats = path
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	_, err = commandIn(filepath.Join(root, "internal/tools/nats"), commandBound, []string{"GOWORK=off"}, "go", "build", "-o", path, "github.com/nats-io/natscli/nats")
	return err
}

// project names what this run makes at the engine.
var project = "cairn-e2e-" + strconv.Itoa(os.Getpid())
