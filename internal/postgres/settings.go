package postgres

import (
	"fmt"
	"os"
	"path/filepath"

	"cairn/internal/machine"
)

// settingsName is the file in the data directory that holds our settings.
const settingsName = "cairn.conf"

// include comes into postgresql.conf once, when a cluster is made.
const include = `
# Cairn's own settings, written at every start. What follows this line, and
# ALTER SYSTEM, prevails over them.
include = '` + settingsName + `'
`

// settings are for one machine that takes points in as fast as it can. They are
// written with the socket's folder and the compression of the log; what depends on
// the machine's memory follows them.
const settings = `# Written by Cairn at every start: changes here are lost. Put yours below the
# include in postgresql.conf, or use ALTER SYSTEM.

# A socket in a folder that only its owner enters is the only way in.
listen_addresses = ''
port = ` + port + `
unix_socket_directories = '%s'
cluster_name = 'cairn'

# Fewer checkpoints write fewer whole pages to the log: with the defaults (1 GB,
# 5 min) a bulk load makes one every few seconds. The price is a slower recovery.
max_wal_size = 4GB
checkpoint_timeout = 15min
# Whole pages are most of the log, and compress to a half or a third. With lz4 that
# costs a tenth of what it does with pglz, which "on" means.
wal_compression = %s
# No query here is long enough to be worth compiling.
jit = off
# Two pools of ours, and people.
max_connections = 100
# Solid-state disks: a random page costs about what the next one does.
random_page_cost = 1.1
# They also serve many requests at once: the pages of a large box are read ahead.
effective_io_concurrency = 64

# Points are mostly inserted: vacuum by inserts, so that pages become
# all-visible and freezing is spread, and keep the planner's numbers fresh.
autovacuum_vacuum_insert_scale_factor = 0.05
autovacuum_analyze_scale_factor = 0.05
autovacuum_naptime = 30s

# One file a weekday, each overwritten a week later.
logging_collector = on
log_directory = '../log'
log_filename = 'postgres-%%a.log'
log_rotation_age = 1d
log_rotation_size = 0
log_truncate_on_rotation = on
log_line_prefix = '%%m [%%p] %%q%%u@%%d '
log_lock_waits = on
`

// memorySettings are written with the megabytes of each.
const memorySettings = `
# A quarter of the memory for the newest segments and the indexes' upper pages; the
# system's own cache has most of the rest.
shared_buffers = %dMB
effective_cache_size = %dMB
`

const (
	// minBuffers is what a machine of 1 GB has; maxBuffers is where more gains
	// little, since the system's cache holds the rest: both in MB.
	minBuffers, maxBuffers = 256, 8192
	// testBuffers is for clusters that live no longer than a test, many at once.
	testBuffers = 128
)

// memoryOf is what depends on the machine's memory, in MB; 0: not known.
func memoryOf(megabytes int) string {
	buffers := min(max(megabytes/4, minBuffers), maxBuffers)
	return fmt.Sprintf(memorySettings, buffers, max(megabytes/4*3, 2*buffers))
}

// unsafeSettings make a cluster that lives no longer than a test fast. Commits
// still go to the kernel at once, so a killed process loses nothing.
const unsafeSettings = `
fsync = off
full_page_writes = off
`

// unsafeMemory is little, whatever the machine has.
var unsafeMemory = fmt.Sprintf(memorySettings, testBuffers, 2*testBuffers)

// writeSettings replaces the file as a whole, so that a crash leaves no half.
func (c *Cluster) writeSettings() error {
	text := fmt.Sprintf(settings, c.socketDir, c.inst.walCompression())
	if c.unsafe {
		text += unsafeSettings + unsafeMemory
	} else {
		bytes, _ := machine.Memory()
		text += memoryOf(int(bytes >> 20))
	}
	return c.owner.writeFile(filepath.Join(c.data(), settingsName), text)
}

// writeFile puts a new file of the owner's in place of the old one.
func (o owner) writeFile(path, text string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.WriteString(text)
	if err == nil && o.switched {
		err = f.Chown(int(o.uid), int(o.gid))
	}
	if err == nil {
		err = f.Sync()
	}
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
