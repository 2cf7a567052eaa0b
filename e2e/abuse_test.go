package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// afresh has a connection for each request.
var afresh = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func mustGetAfresh(t *testing.T, url string) {
	t.Helper()
	answer, err := afresh.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("GET %s: %s", url, answer.Status)
	}
}

// With few files, and far more silent connections than those, it continues: writes,
// reads, and an orderly stop.
func TestFewFilesAndManyConnections(t *testing.T) {
	const files, silent = 128, 400
	args := []string{"-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, files), cairnProgram,
		"serve", "--listen", testrig.AnyPort, "--nats-listen", testrig.AnyPort, "--data", testrig.PreparedFolder(t)}
	s := testrig.Command{Program: "/bin/sh", Args: args}.Serve(t)
	for range silent {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(s.Base, "http://"), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = conn.Write([]byte("G")) // it may have made room already
	}
	testrig.MustPost(t, s.Base+"/point", paris)
	s.Settled()
	for i := range 5 {
		mustGetAfresh(t, fmt.Sprintf("%s/points?limit=%d", s.Base, i+1))
	}
	mustGetAfresh(t, s.Base+"/readyz")
	s.Leave()
}

// A pipe that takes the log and is never read holds up neither requests nor the
// stop.
func TestLogThatNobodyReads(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	listen := testrig.FreePort(t)
	cmd := exec.Command(cairnProgram, "serve", "--listen", listen, "--nats-listen", testrig.AnyPort, "--data", testrig.PreparedFolder(t))
	cmd.Env = testkit.Environment()
	cmd.Stderr = writer
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	base := "http://" + listen
	testkit.Eventually(t, testrig.Patience, base+" is ready", func() bool {
		a, err := testrig.Get(t.Context(), base+"/readyz")
		return err == nil && a.Status == http.StatusOK
	})
	const requests = 3000 // a line each: several times what a pipe holds
	for range requests {
		if a, err := testrig.Get(t.Context(), base+"/livez"); err != nil || a.Status != http.StatusOK {
			t.Fatal(a.Status, err)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(testrig.StopBound):
		t.Errorf("it has not ended %v after SIGTERM", testrig.StopBound)
	}
}
