package cli

import (
	"bufio"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"cairn/bus"
)

// readPasswords returns the passwords of the NATS users: those given, and for
// the rest those kept in file, which is empty if there is none. Where the nodes'
// password is given, what is not given is derived of it and not of the file, so that
// all nodes of a cluster, and all roles, have the same by one secret.
func readPasswords(file string, given map[string]string) (map[string]string, error) {
	for user := range given {
		if user != bus.Nodes && !slices.Contains(bus.Users, user) {
			return nil, usagef("--nats-passwords names the user %q, but the users are %s, and %s for the nodes of a cluster", user, strings.Join(bus.Users, ", "), bus.Nodes)
		}
	}
	if secret := given[bus.Nodes]; secret != "" {
		return derivePasswords(secret, given), nil
	}
	passwords := map[string]string{}
	f, err := os.Open(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("read the NATS passwords: %w", err)
	default:
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if user, password, ok := strings.Cut(lines.Text(), " "); ok {
				passwords[user] = password
			}
		}
	}
	for user, password := range given {
		passwords[user] = password
	}
	return passwords, nil
}

// derivePasswords makes each user's of the nodes' secret, one way.
func derivePasswords(secret string, given map[string]string) map[string]string {
	passwords := maps.Clone(given)
	for _, user := range bus.Users {
		if passwords[user] == "" {
			mac := hmac.New(sha256.New, []byte(secret))
			mac.Write([]byte("cairn nats user " + user))
			passwords[user] = hex.EncodeToString(mac.Sum(nil))
		}
	}
	return passwords
}

// makePasswords is readPasswords for who runs the server: it makes what neither
// has, and keeps it in file, for the roles that share the folder.
func makePasswords(file string, given map[string]string) (map[string]string, error) {
	passwords, err := readPasswords(file, given)
	if err != nil {
		return nil, err
	}
	if given[bus.Nodes] != "" {
		return passwords, nil // derived
	}
	made := false
	for _, user := range bus.Users {
		if passwords[user] == "" {
			passwords[user], made = rand.Text(), true
		}
	}
	if !made {
		return passwords, nil
	}
	var text strings.Builder
	for _, user := range append(slices.Clone(bus.Users), bus.Nodes) {
		if _, ok := given[user]; !ok && passwords[user] != "" {
			fmt.Fprintf(&text, "%s %s\n", user, passwords[user])
		}
	}
	// Written whole or not at all: a role may be reading it.
	partial := file + ".new"
	if err := os.WriteFile(partial, []byte(text.String()), 0o600); err != nil {
		return nil, fmt.Errorf("keep the NATS passwords: %w", err)
	}
	if err := os.Rename(partial, file); err != nil {
		return nil, fmt.Errorf("keep the NATS passwords: %w", err)
	}
	return passwords, nil
}
