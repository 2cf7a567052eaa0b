// Package cli is the cairn command: flags over environment over defaults, with one
// struct per command, and how the roles are put together.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"cairn/internal/client"
	"cairn/internal/garbage"

	"github.com/alecthomas/kong"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2 // the command line or the settings are wrong
	// exitRejected is of a load of which rows were rejected, while everything else is in.
	exitRejected = 3
)

// Build says which build this is.
type Build struct{ Version, Commit string }

func (b Build) String() string { return fmt.Sprintf("cairn %s (commit %s)", b.Version, b.Commit) }

// fill takes what the linker did not set from what the Go tool recorded.
func (b Build) fill() Build {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && b.Commit == "" {
				b.Commit = s.Value
			}
		}
	}
	if b.Version == "" {
		b.Version = "dev"
	}
	if b.Commit == "" {
		b.Commit = "unknown"
	}
	return b
}

// usageError is a wrong setting: exit code 2.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func (e usageError) Unwrap() error { return e.error }

type commands struct {
	Serve       serveCmd       `cmd:"" help:"Run everything in one process, with a private PostGIS unless --database-url is given."`
	Ingest      ingestCmd      `cmd:"" help:"Run the role that accepts writes, with the embedded queue."`
	Projector   projectorCmd   `cmd:"" help:"Run the role that moves points from the queue into PostGIS."`
	Query       queryCmd       `cmd:"" help:"Run the role that answers reads."`
	Migrate     migrateCmd     `cmd:"" help:"Bring the database's schema up to this version."`
	Load        loadCmd        `cmd:"" help:"Send files of points to a running server: CSV, GeoJSON, NDJSON, GPX, KML, Google Timelines."`
	Status      statusCmd      `cmd:"" help:"Show the status of a running server."`
	Cluster     clusterCmd     `cmd:"" help:"Inspect the nodes of the queue and the servers of the database, or turn a single node's data into a cluster's."`
	Keys        keysCmd        `cmd:"" help:"Create, list and revoke access keys."`
	Parked      parkedCmd      `cmd:"" help:"List the events that could not become points, publish them again, or drop them."`
	Rebuild     rebuildCmd     `cmd:"" help:"Rebuild the table of points from its old rows and the queue, while reads and writes continue."`
	Salvage     salvageCmd     `cmd:"" help:"Replace a queue that is damaged, lost, or belongs to another database."`
	OpenAPI     openapiCmd     `cmd:"" name:"openapi" help:"Print the definition of the HTTP API (OpenAPI 3.0)."`
	Healthcheck healthcheckCmd `cmd:"" help:"Check whether the role that listens here is ready, for containers without a shell."`
	Version     versionCmd     `cmd:"" help:"Show version and commit."`
}

// session is what every command gets.
type session struct {
	ctx            context.Context
	stdout, stderr io.Writer
	log            *logBuffer // on stderr
	build          Build
}

type versionCmd struct{}

func (versionCmd) Run(s *session) error {
	_, err := fmt.Fprintln(s.stdout, s.build)
	return err
}

// Main runs the command and returns the exit code.
func Main(args []string, build Build) int {
	// After the first signal a second one has its usual effect: it ends us.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	defer stop()
	limitMemory()
	go garbage.Bound(ctx)
	log := &logBuffer{out: os.Stderr}
	defer log.Close()
	return execute(&session{ctx: ctx, stdout: os.Stdout, stderr: os.Stderr, log: log, build: build.fill()}, args)
}

func execute(s *session, args []string) int {
	exited := -1
	parser, err := kong.New(&commands{},
		kong.Name("cairn"),
		kong.Description("Cairn ingests points over HTTP through a durable queue into PostGIS, and serves them to maps, GIS programs and scripts."),
		kong.Writers(s.stdout, s.stderr),
		kong.Exit(func(code int) { exited = code; panic(exitPanic{}) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Vars(vars()),
		kong.Bind(s),
	)
	if err != nil {
		fmt.Fprintln(s.stderr, "cairn:", err)
		return exitFailed
	}
	switch {
	case len(args) == 0:
		args = []string{"--help"}
	case args[0] == "help":
		args = append(args[1:], "--help")
	}
	command, err := parse(parser, args)
	if exited >= 0 {
		return exited
	}
	if err != nil {
		fmt.Fprintf(s.stderr, "cairn: %v\nSee 'cairn help'.\n", err)
		return exitUsage
	}
	err = command.Run()
	s.log.Close() // before what follows it
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintln(s.stderr, "cairn:", err)
		return exitUsage
	case errors.Is(err, client.ErrOnlyRejected):
		fmt.Fprintln(s.stderr, "cairn:", err)
		return exitRejected
	default:
		fmt.Fprintln(s.stderr, "cairn:", err)
		return exitFailed
	}
}

// exitPanic unwinds from where kong, having printed help, wants to exit.
type exitPanic struct{}

func parse(parser *kong.Kong, args []string) (c *kong.Context, err error) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(exitPanic); !ok {
				panic(r)
			}
		}
	}()
	return parser.Parse(args)
}
