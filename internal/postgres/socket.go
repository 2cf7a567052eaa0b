package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
)

const (
	// database and role are what Cairn's own cluster calls them; the role is
	// its superuser.
	database = "cairn"
	role     = "cairn"

	// port is a part of the socket's name, no more.
	port       = "5432"
	socketName = ".s.PGSQL." + port
	// maxSocketPath is one less than the bytes of sun_path (unix(7)), which
	// ends in a zero.
	maxSocketPath = 107
)

// socketDir is where the socket of the cluster in dir shall be: there, or where
// that makes too long a name, in a folder of its own among the temporary files.
func socketDir(dir string) string {
	inside := filepath.Join(dir, "socket")
	if len(filepath.Join(inside, socketName)) <= maxSocketPath {
		return inside
	}
	sum := sha256.Sum256([]byte(dir))
	name := "cairn-" + hex.EncodeToString(sum[:8])
	short := filepath.Join(os.TempDir(), name)
	if len(filepath.Join(short, socketName)) > maxSocketPath {
		short = filepath.Join("/tmp", name)
	}
	return short
}

// urlOf names every part, so that PGPORT and its like in the environment
// change nothing.
func urlOf(socketDir, database string) string {
	return fmt.Sprintf("postgres://%s@/%s?host=%s&port=%s", role, database, url.QueryEscape(socketDir), port)
}
