package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"text/tabwriter"
	"time"

	"cairn/bus"
	"cairn/internal/hosts"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
)

// serverTimeout is how long a server of the database has to answer.
const serverTimeout = 3 * time.Second

type clusterDatabaseCmd struct {
	repairFlags
	Accept bool `help:"Accept the present primary although another was promoted since the last projection: for a database that was restored from a file-level backup."`
}

func (c *clusterDatabaseCmd) Run(s *session) error {
	url, err := c.running(c.dataFlag)
	if err != nil {
		return err
	}
	endpoint, err := c.endpoint(bus.UserAdmin)
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
	if c.Accept {
		if err := bus.ForgetDatabase(s.ctx, js); err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.stdout, "Forgotten: the projector takes the primary that it finds, from its next connection on.")
		return err
	}
	text, err := bus.NotedDatabase(s.ctx, js)
	if err != nil {
		return err
	}
	return showServers(s, url, hosts.ParseLineage(text))
}

// showServers asks each server of the database how it is.
func showServers(s *session, url string, noted hosts.Lineage) error {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return usagef("the database URL: %w", err)
	}
	w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SERVER\tROLE\tTIMELINE\tPROJECTION UP TO\tPROBLEM")
	primaries, wrong := 0, false
	for _, one := range hosts.Each(cfg) {
		role, timeline, sequence, err := askServer(s.ctx, one)
		problem := ""
		switch {
		case err != nil:
			problem, role = err.Error(), "-"
		case role == "primary" && timeline.Before(noted):
			problem = fmt.Sprintf("a primary of before: timeline %d has been seen; it is not used", noted.Timeline)
		case role == "primary":
			primaries++
		}
		wrong = wrong || problem != ""
		number := "-"
		if timeline.Timeline > 0 {
			number = strconv.FormatUint(uint64(timeline.Timeline), 10)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", net.JoinHostPort(one.Host, strconv.Itoa(int(one.Port))), role, number, sequence, problem)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	switch {
	case primaries == 0:
		return errors.New("no server takes writes: the projection waits for a promotion")
	case primaries > 1:
		return errors.New("more than one server takes writes: end all but one")
	case wrong:
		return errors.New("the database is not as it should be")
	}
	return nil
}

func askServer(ctx context.Context, cfg *pgx.ConnConfig) (role string, lineage hosts.Lineage, sequence int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	hosts.Hasten(&cfg.Config, serverTimeout)
	cfg.ValidateConnect = nil
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return "", lineage, 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if lineage, err = hosts.Of(ctx, conn.PgConn()); err != nil {
		return "", lineage, 0, err
	}
	var standby bool
	err = conn.QueryRow(ctx, `select pg_is_in_recovery(), sequence from checkpoint`).Scan(&standby, &sequence)
	if role = "primary"; standby {
		role = "standby"
	}
	return role, lineage, sequence, err
}
