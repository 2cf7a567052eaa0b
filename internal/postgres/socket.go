package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
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
// a socket cannot be, in a folder of its own among the temporary files.
func socketDir(dir string) string {
	inside := filepath.Join(dir, "socket")
	if fitsSocket(inside) {
		return inside
	}
	sum := sha256.Sum256([]byte(dir))
	name := "cairn-" + hex.EncodeToString(sum[:8])
	if short := filepath.Join(os.TempDir(), name); fitsSocket(short) {
		return short
	}
	return filepath.Join("/tmp", name)
}

// fitsSocket says no where the path is too long, and where clients might not
// understand it: to some a comma parts two hosts, and not all of them decode
// URLs alike.
func fitsSocket(dir string) bool {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-"
	return len(filepath.Join(dir, socketName)) <= maxSocketPath && strings.Trim(dir, plain) == ""
}

// urlOf names every part, so that PGPORT and its like in the environment
// change nothing.
func urlOf(socketDir, database string) string {
	return fmt.Sprintf("postgres://%s@/%s?host=%s&port=%s", role, database, url.QueryEscape(socketDir), port)
}
