package e2e

import (
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// A service manager is told when Cairn answers, and when its stop begins
// (sd_notify(3), Type=notify).
func TestServiceManagerIsTold(t *testing.T) {
	socket := filepath.Join(testkit.Folder(t), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { manager.Close() })
	var mu sync.Mutex
	var told []string
	go func() {
		message := make([]byte, 4096)
		for {
			n, err := manager.Read(message)
			if err != nil {
				return
			}
			mu.Lock()
			told = append(told, string(message[:n]))
			mu.Unlock()
		}
	}()
	heard := func(want ...string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.Equal(told, want)
		}
	}

	command := cairn("serve", "--listen", testrig.AnyPort, "--nats-listen", testrig.AnyPort, "--data", testrig.DataFolder(t))
	command.Env = append(command.Env, "NOTIFY_SOCKET="+socket)
	s := command.Serve(t)
	testkit.Eventually(t, testrig.Patience, "what a service manager is told", heard("READY=1"))
	s.Leave()
	testkit.Eventually(t, testrig.Patience, "what a service manager is told", heard("READY=1", "STOPPING=1"))
}
