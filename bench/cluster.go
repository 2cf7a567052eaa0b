package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"cairn/internal/testrig"
	"cairn/schema"

	"github.com/jackc/pgx/v5"
)

const (
	// clusterNodes are on this machine, all on its one disk: their rate beside one node's
	// says what the copies cost, and not what three machines would take.
	clusterNodes = 3
	// clusterWithin bounds the start: three nodes have to find each other.
	clusterWithin = 2 * time.Minute
	// clusterDatabase is theirs, in the same PostGIS.
	clusterDatabase = "bench_cluster"
)

// A cluster is three nodes, and a projector that made the stream and is stopped.
type cluster struct {
	nodes     []*testrig.Process
	projector *testrig.Process
	bases     []string
}

// benchCluster compares three nodes with one, in what they take and acknowledge, while
// nothing is projected: point by point, from as many connections in all, and one upload.
func benchCluster(ctx context.Context, sys *system, s settings) error {
	c, err := sys.startCluster(ctx)
	defer c.stop()
	if err != nil {
		return err
	}
	c.projector.Signal(syscall.SIGSTOP)
	defer c.projector.Signal(syscall.SIGCONT)
	sys.pause()
	defer sys.resume()
	var points, bulk []pair
	for range s.rounds {
		ours, err := c.wrk(ctx, sys, s.post)
		if err != nil {
			return err
		}
		peer, err := sys.wrk(ctx, sys.ingest, s.post)
		if err != nil {
			return err
		}
		points = append(points, pair{ours, peer})
		ours, err = sendTo(ctx, c.bases[0], s.upload)
		if err != nil {
			return err
		}
		if peer, err = sendTo(ctx, sys.ingest, s.upload); err != nil {
			return err
		}
		bulk = append(bulk, pair{ours, peer})
	}
	report("durable POST /point, three nodes on one machine ÷ one node", "requests/s", points)
	report("bulk until acknowledged, three nodes on one machine ÷ one node", "rows/s", bulk)
	return nil
}

// sendTo is rows/s of one upload until it is acknowledged.
func sendTo(ctx context.Context, base string, rows int) (float64, error) {
	body, start := worldRows(rows), time.Now()
	_, err := (&system{ingest: base}).send(ctx, uploadPath, body, rows)
	return float64(rows) / time.Since(start).Seconds(), err
}

// wrk sends points to all nodes at once, and returns what they take in all.
func (c *cluster) wrk(ctx context.Context, sys *system, d time.Duration) (float64, error) {
	script := filepath.Join(sys.dir, "post.lua")
	if err := os.WriteFile(script, []byte(postScript), 0o600); err != nil {
		return 0, err
	}
	rates, failed := make([]float64, len(c.bases)), make([]error, len(c.bases))
	var group sync.WaitGroup
	for i, base := range c.bases {
		group.Go(func() {
			rates[i], failed[i] = wrkRate(ctx, postConnections/len(c.bases), d, base+"/point", "-s", script)
		})
	}
	group.Wait()
	sum := 0.0
	for i := range rates {
		if failed[i] != nil {
			return 0, failed[i]
		}
		sum += rates[i]
	}
	return sum, nil
}

func (s *system) startCluster(ctx context.Context) (c *cluster, err error) {
	c = &cluster{}
	database := strings.Replace(s.cluster.URL(), "/cairn?", "/"+clusterDatabase+"?", 1)
	err = s.withConn(ctx, func(conn *pgx.Conn) error { _, err := conn.Exec(ctx, "create database "+clusterDatabase); return err })
	if err != nil {
		return c, err
	}
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return c, err
	}
	_, _, err = schema.Migrate(ctx, conn)
	_ = conn.Close(ctx)
	if err != nil {
		return c, err
	}
	addresses, err := freeAddresses(3 * clusterNodes)
	if err != nil {
		return c, err
	}
	web, queue, routes := addresses[:clusterNodes], addresses[clusterNodes:2*clusterNodes], addresses[2*clusterNodes:]
	launch := func(name string, args ...string) (*testrig.Process, error) {
		return testrig.Command{Program: s.binary, Args: args, Log: filepath.Join(s.dir, name+".log"),
			Env: []string{"CAIRN_NATS_PASSWORDS=cluster=bench", "DATABASE_URL=" + database, "CAIRN_LOG_LEVEL=warn"}}.Launch()
	}
	for i := range clusterNodes {
		p, err := launch(fmt.Sprintf("node-%d", i+1), "ingest", "--listen", web[i], "--nats-listen", queue[i], "--data", filepath.Join(s.dir, fmt.Sprintf("n%d", i+1)),
			"--replicas", "3", "--node", fmt.Sprintf("n%d", i+1), "--cluster-listen", routes[i], "--cluster-routes", strings.Join(routes, ","))
		if err != nil {
			return c, err
		}
		c.nodes, c.bases = append(c.nodes, p), append(c.bases, "http://"+web[i])
	}
	c.projector, err = launch("node-projector", "projector", "--listen", anyPort, "--data", filepath.Join(s.dir, "n0"), "--replicas", "3", "--nats-url", "nats://"+strings.Join(queue, ",nats://"))
	if err != nil {
		return c, err
	}
	for _, base := range c.bases {
		err = testrig.Until(ctx, clusterWithin, base+" is ready", func(ctx context.Context) error { return testrig.GetJSON(ctx, base+"/readyz", nil) })
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

func (c *cluster) stop() {
	for _, p := range append(c.nodes, c.projector) {
		if p != nil {
			p.Kill()
		}
	}
}

// freeAddresses are on loopback, and free a moment ago.
func freeAddresses(n int) (all []string, err error) {
	for range n {
		l, err := net.Listen("tcp", anyPort)
		if err != nil {
			return nil, err
		}
		defer l.Close() // all are held until all are known
		all = append(all, l.Addr().String())
	}
	return all, nil
}
