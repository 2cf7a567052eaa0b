// Cairn ingests points over HTTP through a durable queue into PostGIS, and serves
// them to maps, GIS programs and scripts. See README.md for its use and DESIGN.md for how it works.
package main

import (
	"os"

	"cairn/internal/cli"
)

// Set by the linker: see the Makefile.
var version, commit string

func main() {
	os.Exit(cli.Main(os.Args[1:], cli.Build{Version: version, Commit: commit}))
}
