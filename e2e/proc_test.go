package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// procField is a field of /proc/PID/status; see proc_pid_status(5).
func procField(t testing.TB, pid int, name string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("/proc/%d/status has no %s", pid, name)
	return ""
}

// stateOf is one letter: R, S, T (stopped), Z and so on.
func stateOf(t testing.TB, pid int) string { return procField(t, pid, "State")[:1] }

// peakBytes is the most memory that the process ever had resident, residentBytes what
// it has now.
func peakBytes(t testing.TB, pid int) int64     { return procBytes(t, pid, "VmHWM") }
func residentBytes(t testing.TB, pid int) int64 { return procBytes(t, pid, "VmRSS") }

func procBytes(t testing.TB, pid int, name string) int64 {
	t.Helper()
	number, unit, _ := strings.Cut(procField(t, pid, name), " ")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || unit != "kB" {
		t.Fatalf("%s is %s %s", name, number, unit)
	}
	return n << 10
}
