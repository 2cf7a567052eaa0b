package load

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// processorTime is what this process has used so far.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// machineTime is what all processors of the machine have worked and had in all,
// in the kernel's ticks (proc_stat(5)); 0 where there is no such file.
func machineTime() (busy, all int64) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(data), "\n")
	for i, field := range strings.Fields(line) {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil || i > 8 { // the name; and guests, who are in the others
			continue
		}
		all += n
		if i != 4 && i != 5 { // idle and waiting for disks
			busy += n
		}
	}
	return busy, all
}

// A meter measures the use of processors since its start.
type meter struct {
	at        time.Time
	own       time.Duration
	busy, all int64
}

func startMeter() meter {
	m := meter{at: time.Now(), own: processorTime()}
	m.busy, m.all = machineTime()
	return m
}

// read returns the cores that this process used, and the share of the machine's
// that all did.
func (m meter) read() (cores, machine float64) {
	if wall := time.Since(m.at); wall > 0 {
		cores = float64(processorTime()-m.own) / float64(wall)
	}
	if busy, all := machineTime(); all > m.all {
		machine = float64(busy-m.busy) / float64(all-m.all)
	}
	return cores, machine
}
