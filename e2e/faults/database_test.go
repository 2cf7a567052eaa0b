package faults

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"cairn/internal/testrig"
)

// adminTimeout bounds one command of ours to the database.
const adminTimeout = 10 * time.Second

// faultsSchema gives Postgres errors on demand: a row in faults.now makes a
// step of the projector's transaction fail with that SQLSTATE. It also notes
// when the checkpoint does not move forward, as it would where two projectors
// have applied one batch.
const faultsSchema = `
create schema if not exists faults;
create table if not exists faults.now (step text, code text);
create or replace function faults.strike() returns trigger language plpgsql as $$
declare struck text;
begin
	select code into struck from faults.now where step = tg_argv[0];
	if found then
		raise exception 'struck at %', tg_argv[0] using errcode = struck;
	end if;
	return null;
end $$;
create or replace trigger faults_fence after update on checkpoint for each statement execute function faults.strike('fence');
create or replace function faults.arm() returns void language plpgsql as $$
begin
	-- The head takes the rows; another one begins with every segment.
	execute (select format('create or replace trigger faults_copy after insert on points_%s for each statement execute function faults.strike(''copy'')', id)
		from segments where state = 'head');
end $$;
drop trigger if exists faults_commit on checkpoint;
create table if not exists faults.backwards (was bigint, became bigint);
create or replace function faults.note() returns trigger language plpgsql as $$
begin
	insert into faults.backwards values (old.sequence, new.sequence);
	return null;
end $$;
create or replace trigger faults_backwards after update of sequence on checkpoint for each row
	when (new.sequence <= old.sequence) execute function faults.note();
create constraint trigger faults_commit after update on checkpoint deferrable initially deferred
	for each row execute function faults.strike('commit');`

// admin connects past every proxy, to the database or to another.
func (s *system) admin(ctx context.Context, database string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(s.cluster.URL())
	if err != nil {
		return nil, err
	}
	if database != "" {
		cfg.Database = database
	}
	cfg.RuntimeParams["application_name"] = "faults"
	return pgx.ConnectConfig(ctx, cfg)
}

// connect is admin for one piece of work, which ctx then bounds by adminTimeout. Call end
// when it is done.
func (s *system) connect(ctx context.Context) (bounded context.Context, conn *pgx.Conn, end func(), err error) {
	bounded, cancel := context.WithTimeout(ctx, adminTimeout)
	conn, err = s.admin(bounded, "")
	if err != nil {
		cancel()
		return nil, nil, nil, err
	}
	return bounded, conn, func() {
		_ = conn.Close(context.WithoutCancel(ctx))
		cancel()
	}, nil
}

// exec runs one statement, past every proxy.
func (s *system) exec(ctx context.Context, sql string, args ...any) error {
	ctx, conn, end, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer end()
	_, err = conn.Exec(ctx, sql, args...)
	return err
}

func (s *system) prepareDatabase(ctx context.Context) error {
	p, err := launch(s.logs, s.name+"-migrate", "migrate", "--data", s.data)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, testrig.StopBound)
	defer cancel()
	if code, err := p.End(ctx); err != nil || code != 0 {
		return fmt.Errorf("migrate: code %d, %w: %s", code, err, p.Stdout.Tail())
	}
	return s.exec(ctx, faultsSchema+holdSchema)
}

// socket is where the cluster listens.
func (s *system) socket() (network, path string) {
	cfg, err := pgx.ParseConfig(s.cluster.URL())
	if err != nil {
		s.t.Fatal(err)
	}
	return "unix", filepath.Join(cfg.Host, ".s.PGSQL."+strconv.Itoa(int(cfg.Port)))
}

// databaseURL is the database's by way of an address.
func (s *system) databaseURL(address string) string {
	cfg, err := pgx.ParseConfig(s.cluster.URL())
	if err != nil {
		s.t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprintf("postgres://%s@%s:%s/%s?sslmode=disable", cfg.User, host, port, cfg.Database)
}

func (s *system) clusterData() string { return filepath.Join(s.data, "postgres", "cluster") }

// postmaster is the cluster's first process, whoever has started it; 0 where
// none is noted.
func (s *system) postmaster() int {
	text, err := os.ReadFile(filepath.Join(s.clusterData(), "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		return 0
	}
	return pid
}

// backend is the process of one of cairn's connections, chosen by salt.
func (s *system) backend(ctx context.Context, salt uint64) (int, error) {
	ctx, conn, end, err := s.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	rows, err := conn.Query(ctx, `select pid from pg_stat_activity
		where datname = current_database() and application_name <> 'faults' order by application_name, backend_start`)
	if err != nil {
		return 0, err
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil || len(pids) == 0 {
		return 0, err
	}
	return pids[salt%uint64(len(pids))], nil
}

const hbaOpen = "local all all trust\n"

// admit lets connections in or refuses them, as a changed pg_hba.conf does, and
// ends those that are there.
func (s *system) admit(ctx context.Context, yes bool) error {
	cfg, err := pgx.ParseConfig(s.cluster.URL())
	if err != nil {
		return err
	}
	text := hbaOpen
	if !yes {
		text = "local " + cfg.Database + " all reject\n" + text
	}
	// In place, so that it stays its owner's.
	if err := os.WriteFile(filepath.Join(s.clusterData(), "pg_hba.conf"), []byte(text), 0o600); err != nil {
		return err
	}
	if pid := s.postmaster(); pid > 0 {
		_ = syscall.Kill(pid, syscall.SIGHUP) // or it reads the file at its start
	}
	if yes {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	conn, err := s.admin(ctx, "postgres")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", cfg.Database)
	return err
}
