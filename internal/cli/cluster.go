package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"text/tabwriter"
	"time"

	"cairn/bus"
	"cairn/bus/server"
	"cairn/internal/datadir"

	"github.com/nats-io/nats.go/jetstream"
)

// clusterTimeout is how long the stream's leader has to answer; without a quorum there
// is none.
const clusterTimeout = 2 * time.Second

type clusterCmd struct {
	Status   clusterStatusCmd   `cmd:"" help:"Show the nodes of the queue's cluster, which one leads, whose copy lags, and whether writes are accepted. Exit code 1 if something is wrong."`
	Database clusterDatabaseCmd `cmd:"" help:"Show the servers of the database: which one is the primary, its timeline, and how far each has replicated. Exit code 1 if something is wrong."`
	Adopt    clusterAdoptCmd    `cmd:"" help:"Turn the data of a stopped single node into a cluster's. It can be interrupted at any point and run again."`
}

type clusterStatusCmd struct {
	dataFlag
	natsURLFlag
	natsPasswordsFlag
	logFlags
	JSON bool `help:"As JSON."`
}

// A clusterStatus is what 'cairn cluster status' shows.
type clusterStatus struct {
	// Nodes are those that answered, and those that the others know.
	Nodes []bus.Node `json:"nodes"`
	// Away are nodes that others know and that did not answer.
	Away []string `json:"away,omitempty"`
	// Copies are those of the stream, by its leader; nil: nobody leads it.
	Copies *bus.Copies `json:"copies,omitempty"`
	// Quorum is how many copies must answer for a write to be taken.
	Quorum int  `json:"quorum"`
	Writes bool `json:"writes_are_taken"`
	// Problems are all that is wrong.
	Problems []string `json:"problems,omitempty"`
}

func (c *clusterStatusCmd) Run(s *session) error {
	endpoint, err := remoteQueue(c.dataFlag, c.natsURLFlag, c.natsPasswordsFlag, bus.UserAdmin)
	if err != nil {
		return err
	}
	nc, err := bus.Reach(s.ctx, endpoint, c.logger(s))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	var st clusterStatus
	if st.Nodes, err = bus.AskNodes(s.ctx, nc, 0); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, clusterTimeout)
	defer cancel()
	stream, err := js.Stream(ctx, bus.Stream)
	if err == nil {
		copies := bus.CopiesOf(stream.CachedInfo())
		st.Copies = &copies
	}
	st.findProblems(err)
	if c.JSON {
		encoder := json.NewEncoder(s.stdout)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(st); err != nil {
			return err
		}
	} else if err := st.show(s.stdout); err != nil {
		return err
	}
	if len(st.Problems) > 0 {
		return errors.New("the cluster is not as it should be")
	}
	return nil
}

// findProblems finds what is wrong; noStream is why the stream's leader did not answer.
func (st *clusterStatus) findProblems(noStream error) {
	sort.Slice(st.Nodes, func(i, j int) bool { return st.Nodes[i].Name < st.Nodes[j].Name })
	here, known := map[string]bool{}, map[string]bool{}
	for _, n := range st.Nodes {
		here[n.Name] = true
		for _, m := range n.Members {
			known[m.Node] = true
		}
		if n.Problem != "" {
			st.Problems = append(st.Problems, n.Name+": "+n.Problem)
		}
		if n.Fresh {
			st.Problems = append(st.Problems, n.Name+" began with an empty disk and is being brought up to date")
		}
	}
	for name := range known {
		if !here[name] {
			st.Away = append(st.Away, name)
		}
	}
	sort.Strings(st.Away)
	if len(st.Away) > 0 {
		st.Problems = append(st.Problems, "no answer from "+strings.Join(st.Away, ", "))
	}
	switch {
	case errors.Is(noStream, jetstream.ErrStreamNotFound):
		st.Problems = append(st.Problems, "there is no stream yet: the projector makes it when it has reached its database")
	case noStream != nil:
		st.Problems = append(st.Problems, "nobody leads the stream, so no write is taken: too few nodes reach each other, or an election is on")
	default:
		st.Quorum = st.Copies.Quorum()
		st.Writes = st.Copies.Wanted == 1 || st.Copies.Leader != "" && st.Copies.Whole >= st.Quorum
		if text := st.Copies.Problem(); text != "" {
			st.Problems = append(st.Problems, text)
		}
	}
}

func (st *clusterStatus) show(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tSTREAM\tCOPY\tENDS AT\tDISK FREE\tVERSION\tUP SINCE")
	for _, n := range st.Nodes {
		role, copied := "follows", "lags"
		if n.Whole {
			copied = "whole"
		}
		if st.Copies == nil {
			role = "-"
		} else if st.Copies.Leader == n.Name {
			role = "leads"
		} else {
			for _, o := range st.Copies.Others {
				if o.Node == n.Name && !o.Whole {
					copied = fmt.Sprintf("%d behind", o.Behind)
				}
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d MiB\t%s\t%s\n", n.Name, role, copied, n.Last, n.DiskFree>>20, n.Version, n.Started.Local().Format("2006-01-02 15:04:05"))
	}
	for _, name := range st.Away {
		fmt.Fprintf(w, "%s\taway\t-\t-\t-\t-\t-\n", name)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	switch {
	case st.Copies == nil:
	case st.Copies.Wanted == 1:
		fmt.Fprintln(out, "\nThe stream has one copy.")
	case st.Writes:
		fmt.Fprintf(out, "\nWrites are taken: %d of %d copies are whole, and a write needs %d.\n", st.Copies.Whole, st.Copies.Wanted, st.Quorum)
	default:
		fmt.Fprintf(out, "\nWrites are not taken: %d of %d copies are whole, and a write needs %d.\n", st.Copies.Whole, st.Copies.Wanted, st.Quorum)
	}
	for _, p := range st.Problems {
		fmt.Fprintf(out, "- %s\n", p)
	}
	return nil
}

type clusterAdoptCmd struct {
	dataFlag
	logFlags
}

func (c *clusterAdoptCmd) Run(s *session) error {
	unlock, err := datadir.Lock(c.Data)
	if err != nil {
		return fmt.Errorf("the node must be stopped first: %w", err)
	}
	defer unlock()
	passwords, err := makePasswords(c.passwords(), nil)
	if err != nil {
		return err
	}
	done, err := server.Adopt(s.ctx, server.Config{StoreDir: c.store(), AcknowledgedFile: c.acknowledgedFile(), AdoptDir: c.adopted(),
		MaxStore: adoptMaxStore, Passwords: passwords, Log: c.logger(s)})
	if err != nil {
		return err
	}
	if done.Before {
		fmt.Fprintf(s.stdout, "This was done before: %s are in %s.\n", strings.Join(done.Streams, ", "), c.adopted())
	} else {
		fmt.Fprintf(s.stdout, "Taken out: %s; %d messages of %s, up to sequence %d.\n", strings.Join(done.Streams, ", "), done.Messages, bus.Stream, done.Last)
	}
	_, err = fmt.Fprintf(s.stdout, `
Start the nodes of the cluster now, this one with this data folder. It puts the data in
as soon as the cluster has a leader, and is ready when all copies are whole:

  %[1]s ingest --data %[2]s --replicas 3 --node n1 --cluster-listen HOST:6222 --cluster-routes HOST1:6222,HOST2:6222,HOST3:6222 …

The single node's store is in %[3]s. Remove it when 'cairn cluster status' shows
three whole copies.
`, os.Args[0], c.Data, done.Aside)
	return err
}

// adoptMaxStore bounds nothing: what is there fits.
const adoptMaxStore = 1 << 62
