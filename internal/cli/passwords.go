package cli

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"cairn/bus"
)

// readPasswords returns the passwords of the NATS users: those given, and for
// the rest those kept in file, which is empty if there is none.
func readPasswords(file string, given map[string]string) (map[string]string, error) {
	for user := range given {
		if !slices.Contains(bus.Users, user) {
			return nil, usagef("--nats-passwords names the user %q, but the users are %s", user, strings.Join(bus.Users, ", "))
		}
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

// makePasswords is readPasswords for who runs the server: it makes what neither
// has, and keeps it in file, for the roles that share the folder.
func makePasswords(file string, given map[string]string) (map[string]string, error) {
	passwords, err := readPasswords(file, given)
	if err != nil {
		return nil, err
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
	for _, user := range bus.Users {
		if _, ok := given[user]; !ok {
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
