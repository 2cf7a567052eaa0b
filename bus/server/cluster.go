package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

const (
	// clusterName is that of all clusters of Cairn's: routes with another one are
	// refused.
	clusterName = "cairn"
	// routeUser is whom nodes log in as with each other.
	routeUser = "cluster"
	// routePing and routePingsLost bound, to 8 s, the time until a route that was
	// lost silently is noticed. The server's defaults are minutes, and what is sent
	// into such a route meanwhile is lost.
	routePing      = 2 * time.Second
	routePingsLost = 3
	// routeAuth is how long a route may take to log in.
	routeAuth = 5 * time.Second
)

// A Cluster is what a node has to know of the nodes that it keeps the queue with.
type Cluster struct {
	// Node is this node's name: no other's, and the same after every restart, since
	// the others know by it whose copy is whose.
	Node string
	// Listen is where the other nodes connect: host:port.
	Listen string
	// Routes are the addresses of all nodes, host:port; this one's own may be among
	// them.
	Routes []string
	// Advertise is how the others reach this node, host:port, where that is not
	// Listen: behind a translation of addresses. Usually empty.
	Advertise string
	// Replicas is how many copies of the stream there are.
	Replicas int
	// Password is what nodes show each other.
	Password string
	// TLS, where it is not nil, encrypts routes and asks both sides for a
	// certificate.
	TLS *RouteTLS
}

// A RouteTLS has the names of PEM files.
type RouteTLS struct{ Cert, Key, CA string }

var nodeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

// Check says what is wrong with the settings.
func (c *Cluster) Check() error {
	switch {
	case c.Replicas != 3 && c.Replicas != 5:
		return fmt.Errorf("a cluster keeps 3 or 5 copies, not %d", c.Replicas)
	case !nodeName.MatchString(c.Node):
		return fmt.Errorf("the node's name %q is not one of letters, digits, - and _", c.Node)
	case c.Password == "":
		return errors.New("the nodes need a password that is the same on all of them")
	}
	if _, _, err := splitListen(c.Listen); err != nil {
		return err
	}
	routes := slices.Clone(c.Routes)
	for i, route := range routes {
		host, port, err := net.SplitHostPort(trimScheme(route))
		if err != nil || host == "" || port == "" {
			return fmt.Errorf("the route %q is not host:port", route)
		}
		routes[i] = net.JoinHostPort(host, port)
	}
	slices.Sort(routes)
	if len(slices.Compact(routes)) < c.Replicas {
		return fmt.Errorf("%d copies need %d nodes, but only %d different routes are given: name all nodes, this one too",
			c.Replicas, c.Replicas, len(slices.Compact(routes)))
	}
	return nil
}

// trimScheme takes a route as people write it: host:port, or nats://host:port.
func trimScheme(route string) string {
	if _, after, found := strings.Cut(route, "://"); found {
		return after
	}
	return route
}

// config is the cluster's part of the server's configuration.
func (c *Cluster) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster {\nname: %q\nlisten: %q\nping_interval: %q\nping_max: %d\n", clusterName, c.Listen, routePing, routePingsLost)
	fmt.Fprintf(&b, "authorization { user: %q, password: %q, timeout: %q }\n", routeUser, c.Password, routeAuth)
	if c.Advertise != "" {
		fmt.Fprintf(&b, "advertise: %q\n", c.Advertise)
	}
	if t := c.TLS; t != nil {
		fmt.Fprintf(&b, "tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }\n", t.Cert, t.Key, t.CA)
	}
	b.WriteString("routes: [\n")
	for _, route := range c.Routes {
		u := url.URL{Scheme: "nats-route", Host: trimScheme(route), User: url.UserPassword(routeUser, c.Password)}
		fmt.Fprintf(&b, "%q\n", u.String())
	}
	b.WriteString("]\n}\n")
	return b.String()
}

// What a store is, by what lies in it.
type storeKind struct {
	streams bool // it has streams
	meta    bool // it has been a cluster's: it knows the members and who has what
}

// inspectStore reads the folders that the server keeps its store in.
func inspectStore(dir string) (storeKind, error) {
	var k storeKind
	parent := filepath.Join(dir, natsserver.JetStreamStoreDir)
	accounts, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return k, fmt.Errorf("look at the queue's store: %w", err)
	}
	for _, a := range accounts {
		streams, err := os.ReadDir(filepath.Join(parent, a.Name(), "streams"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return k, fmt.Errorf("look at the queue's store: %w", err)
		}
		k.streams = k.streams || len(streams) > 0
		if _, err := os.Stat(filepath.Join(parent, a.Name(), "_js_", "_meta_")); err == nil {
			k.meta = true
		}
	}
	return k, nil
}

// Errors of a store that is not what the settings say. The server itself would not
// refuse: in a cluster it deletes, after 30 s, the streams of a store that was never
// a cluster's.
var (
	ErrSingleStore  = errors.New("the store is that of a single node, and a cluster would delete it")
	ErrClusterStore = errors.New("the store is that of a node of a cluster, and a single node would not see its data")
)

// checkStore refuses to open a store as what it is not.
func checkStore(dir, adoptDir string, clustered bool) error {
	k, err := inspectStore(dir)
	switch {
	case err != nil:
		return err
	case !clustered && !k.streams && adopted(adoptDir):
		return fmt.Errorf("%w: 'cairn cluster adopt' has taken it out for a cluster. Give the settings of the cluster (--replicas, --node, --cluster-listen, --cluster-routes). "+
			"To go back to a single node, put %s.single in the place of %s and remove %s", ErrClusterStore, dir, dir, adoptDir)
	case clustered && k.streams && !k.meta:
		return fmt.Errorf("%w. Run 'cairn cluster adopt' with this data folder first: it takes the data along. Nothing was changed (%s)", ErrSingleStore, dir)
	case !clustered && k.meta:
		return fmt.Errorf("%w. Give it the cluster's settings again (--replicas, --node, --cluster-listen, --cluster-routes). Nothing was changed (%s)", ErrClusterStore, dir)
	}
	return nil
}
