package report

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// Machine is what the run was made on, as far as the system tells.
func Machine() []Pair {
	pairs := []Pair{{"Cores", strconv.Itoa(runtime.NumCPU())}}
	add := func(name, value string) {
		if value != "" {
			pairs = append(pairs, Pair{name, value})
		}
	}
	add("Processor", field("/proc/cpuinfo", "model name"))
	add("Memory", memory(field("/proc/meminfo", "MemTotal")))
	add("System", strings.Trim(field("/etc/os-release", "PRETTY_NAME"), `"`))
	// The version, without what a distribution or a host adds to it.
	kernel, _, _ := strings.Cut(firstLine("/proc/sys/kernel/osrelease"), "-")
	add("Kernel", kernel)
	add("Go", runtime.Version()+" "+runtime.GOOS+"/"+runtime.GOARCH)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				add("Commit of this tool", s.Value)
			}
		}
	}
	return pairs
}

// field finds "name: value" or "name=value" in a small file of the system.
func field(path, name string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if at := strings.IndexAny(line, ":="); at > 0 && strings.TrimSpace(line[:at]) == name {
			return strings.TrimSpace(line[at+1:])
		}
	}
	return ""
}

func firstLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}
