package cli

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// containerShare is the part of a container's memory, in percent, that the heap
	// may grow to before the collector works harder: stacks and what is not Go's
	// need the rest.
	containerShare = 90
	// machineShare is the same of a machine's, which has a database too.
	machineShare = 50
)

// memoryFiles are where a container's bound is: of cgroups 2, and 1.
var memoryFiles = []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}

// limitMemory sets the runtime's soft limit from the container, or the machine,
// unless GOMEMLIMIT says it.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		if limit := memoryLimit(memoryFiles, machineMemory()); limit > 0 {
			debug.SetMemoryLimit(limit)
		}
	}
}

// memoryLimit is in bytes; 0 where nothing is known. A bound above the machine's
// memory is none.
func memoryLimit(files []string, machine int64) int64 {
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		bound, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err == nil && bound > 0 && (machine == 0 || bound < machine) {
			return bound / 100 * containerShare
		}
	}
	return machine / 100 * machineShare
}

func machineMemory() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit) //nolint:gosec // a machine's memory
}
