// Package machine finds how much memory this process may use, from which the roles
// and the private cluster derive their limits.
package machine

import (
	"os"
	"strconv"
	"strings"
)

// files are where a container's bound is: of cgroups 2, and 1.
var files = []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}

// Memory is what this process and its children may use, and whether it is a container's
// bound or all of the machine's; 0 where it is not known.
func Memory() (bytes int64, contained bool) { return bounded(files, total()) }

// bounded is the first file's bound. One above the machine's memory is none.
func bounded(files []string, machine int64) (bytes int64, contained bool) {
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		bound, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err == nil && bound > 0 && (machine == 0 || bound < machine) {
			return bound, true
		}
	}
	return machine, false
}
