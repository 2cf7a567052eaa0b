package cli

import (
	"os"
	"runtime/debug"

	"cairn/internal/machine"
)

const (
	// containerShare is the part of a container's memory, in percent, that the heap
	// may grow to before the collector works harder: stacks and what is not Go's
	// need the rest.
	containerShare = 90
	// machineShare is the same of a machine's, which has a database too.
	machineShare = 50
)

// limitMemory sets the runtime's soft limit from the container, or the machine,
// unless GOMEMLIMIT says it.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	bytes, contained := machine.Memory()
	share := int64(machineShare)
	if contained {
		share = containerShare
	}
	if bytes > 0 {
		debug.SetMemoryLimit(bytes / 100 * share)
	}
}
