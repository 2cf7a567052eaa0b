package cli

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cairn/bus"
	"cairn/bus/server"
	"cairn/ingest"
	"cairn/ingest/device"
	"cairn/internal/datadir"
	"cairn/internal/postgres"
	"cairn/internal/web"
	"cairn/projector"

	"github.com/alecthomas/kong"
)

func vars() kong.Vars {
	return kong.Vars{
		"data":       datadir.Default(),
		"max_bytes":  strconv.Itoa(bus.DefaultMaxBytes),
		"replay_age": projector.DefaultReplayAge.String(),
	}
}

// Groups of flags that several commands share.

type logFlags struct {
	LogLevel  string `enum:"debug,info,warn,error" default:"info" env:"CAIRN_LOG_LEVEL" help:"Lowest level to log: ${enum}. Each request is one line at info."`
	LogFormat string `enum:"text,json" default:"text" env:"CAIRN_LOG_FORMAT" help:"Format of log lines: ${enum}."`
}

func (f logFlags) logger(s *session) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(f.LogLevel)) // one of the enum
	options := &slog.HandlerOptions{Level: level}
	if f.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(s.log, options))
	}
	return slog.New(slog.NewTextHandler(s.log, options))
}

type dataFlag struct {
	Data string `default:"${data}" env:"CAIRN_DATA" type:"path" placeholder:"DIR" help:"Folder for the queue's store and the private PostGIS cluster (${default})."`
}

func (f dataFlag) store() string            { return filepath.Join(f.Data, "jetstream") }
func (f dataFlag) cluster() string          { return filepath.Join(f.Data, "postgres") }
func (f dataFlag) acknowledgedFile() string { return filepath.Join(f.Data, "acknowledged") }
func (f dataFlag) adopted() string          { return filepath.Join(f.Data, "adopted") }
func (f dataFlag) passwords() string        { return filepath.Join(f.Data, "nats-passwords") }

type databaseFlag struct {
	DatabaseURL string `env:"DATABASE_URL" placeholder:"URL" help:"PostGIS to use, as postgres://user:password@host/database; with standbys, list all hosts: postgres://user:password@host1,host2,host3/database. Empty: the private cluster under --data."`
}

// running is the URL given, or that of the private cluster that runs in data.
func (f databaseFlag) running(data dataFlag) (string, error) {
	if f.DatabaseURL != "" {
		return f.DatabaseURL, nil
	}
	if url, ok := postgres.Find(data.cluster()); ok {
		return url, nil
	}
	return "", usagef("no database: no private PostGIS runs under %s; start 'cairn serve' there, or set --database-url or DATABASE_URL", data.Data)
}

type natsURLFlag struct {
	NATSURL   string `name:"nats-url" env:"NATS_URL" placeholder:"URL,…" help:"NATS servers to use, as nats://user:password@host:4222; several are separated by commas. Empty: the embedded one (serve, ingest), or nats://127.0.0.1:4222."`
	NATSCreds string `name:"nats-creds" env:"CAIRN_NATS_CREDS" type:"path" placeholder:"FILE" help:"Credentials (JWT and key) for NATS servers that require them."`
	NATSCA    string `name:"nats-ca" env:"CAIRN_NATS_CA" type:"path" placeholder:"FILE" help:"CA certificates for verifying NATS servers, PEM."`
	NATSCert  string `name:"nats-cert" env:"CAIRN_NATS_CERT" type:"path" placeholder:"FILE" help:"Client certificate for NATS servers, PEM."`
	NATSKey   string `name:"nats-key" env:"CAIRN_NATS_KEY" type:"path" placeholder:"FILE" help:"Private key of the certificate, PEM."`
}

// check says what is wrong with the files.
func (f natsURLFlag) check() error {
	if (f.NATSCert == "") != (f.NATSKey == "") {
		return usagef("--nats-cert and --nats-key go together")
	}
	for flag, file := range map[string]string{"nats-creds": f.NATSCreds, "nats-ca": f.NATSCA, "nats-cert": f.NATSCert, "nats-key": f.NATSKey} {
		if file == "" {
			continue
		}
		if _, err := os.Stat(file); err != nil {
			return usagef("--%s: %w", flag, err)
		}
	}
	return nil
}

type natsListenFlag struct {
	NATSListen string `name:"nats-listen" default:"127.0.0.1:4222" env:"CAIRN_NATS_LISTEN" placeholder:"HOST:PORT" help:"Where the embedded NATS server listens (${default})."`
}

type natsPasswordsFlag struct {
	NATSPasswords map[string]string `name:"nats-passwords" env:"CAIRN_NATS_PASSWORDS" placeholder:"USER=PASSWORD;…" help:"Passwords of the NATS users ingest, projector, query, inspect and admin. Those not given are generated once and stored under --data. cluster=… is the password of the nodes of a cluster; the others are derived from it."`
}

type replicasFlag struct {
	Replicas int `enum:"1,3,5" default:"1" env:"CAIRN_REPLICAS" placeholder:"1|3|5" help:"Number of copies of the queue's stream, each on another node (${default}). Copies are added to a stream that has fewer, never removed."`
}

// clusterFlags are how a node finds the others.
type clusterFlags struct {
	replicasFlag
	Node             string   `env:"CAIRN_NODE" placeholder:"NAME" help:"This node's name in the cluster: unique, and the same after every restart."`
	ClusterListen    string   `env:"CAIRN_CLUSTER_LISTEN" placeholder:"HOST:PORT" help:"Where to listen for the other nodes. Setting it makes the queue a cluster."`
	ClusterRoutes    []string `env:"CAIRN_CLUSTER_ROUTES" placeholder:"HOST:PORT,…" help:"Addresses at which the nodes listen for each other; this node's may be among them."`
	ClusterAdvertise string   `env:"CAIRN_CLUSTER_ADVERTISE" placeholder:"HOST:PORT" help:"Address at which the others reach this node, if it is not --cluster-listen."`
	ClusterTLSCert   string   `name:"cluster-tls-cert" env:"CAIRN_CLUSTER_TLS_CERT" type:"path" placeholder:"FILE" help:"Certificate for connections between nodes, PEM: encrypts them, and both sides must present one."`
	ClusterTLSKey    string   `name:"cluster-tls-key" env:"CAIRN_CLUSTER_TLS_KEY" type:"path" placeholder:"FILE" help:"Private key of the certificate, PEM."`
	ClusterTLSCA     string   `name:"cluster-tls-ca" env:"CAIRN_CLUSTER_TLS_CA" type:"path" placeholder:"FILE" help:"CA certificates for verifying nodes, PEM."`
}

// cluster is nil where no cluster is asked for.
func (f clusterFlags) cluster(passwords map[string]string) (*server.Cluster, error) {
	if f.ClusterListen == "" && len(f.ClusterRoutes) == 0 && f.Node == "" && f.Replicas <= 1 {
		return nil, nil //nolint:nilnil // a single node
	}
	for flag, given := range map[string]bool{"--replicas": f.Replicas > 1, "--node": f.Node != "", "--cluster-listen": f.ClusterListen != "", "--cluster-routes": len(f.ClusterRoutes) > 0} {
		if !given {
			return nil, usagef("a cluster needs --replicas 3, --node, --cluster-listen and --cluster-routes: %s is missing", flag)
		}
	}
	c := &server.Cluster{Node: f.Node, Listen: f.ClusterListen, Routes: f.ClusterRoutes, Advertise: f.ClusterAdvertise, Replicas: f.Replicas, Password: passwords[bus.Nodes]}
	if c.Password == "" {
		return nil, usagef("the nodes of a cluster need a password that they share: --nats-passwords cluster=…; those of the NATS users that are not given are derived of it")
	}
	if f.ClusterTLSCert != "" || f.ClusterTLSKey != "" || f.ClusterTLSCA != "" {
		if f.ClusterTLSCert == "" || f.ClusterTLSKey == "" || f.ClusterTLSCA == "" {
			return nil, usagef("--cluster-tls-cert, --cluster-tls-key and --cluster-tls-ca go together")
		}
		c.TLS = &server.RouteTLS{Cert: f.ClusterTLSCert, Key: f.ClusterTLSKey, CA: f.ClusterTLSCA}
	}
	if err := c.Check(); err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

type streamFlags struct {
	MaxBytes int64 `default:"${max_bytes}" env:"CAIRN_MAX_BYTES" placeholder:"BYTES" help:"Limit on the stream's size, set when it is created; at most a tenth of the free disk (${default})."`
}

// bound is the stream's bound on the disk that holds dir.
func (f streamFlags) bound(dir string) (int64, error) {
	if f.MaxBytes < bus.MinMaxBytes {
		return 0, usagef("--max-bytes is %d, but the stream needs at least %d", f.MaxBytes, bus.MinMaxBytes)
	}
	free, err := datadir.Free(dir)
	if err != nil {
		return 0, fmt.Errorf("look at the disk under %s: %w", dir, err)
	}
	return max(min(f.MaxBytes, free/10), bus.MinMaxBytes), nil
}

type changeFlags struct {
	RequireConditions bool `env:"CAIRN_REQUIRE_CONDITIONS" help:"Refuse a PUT, PATCH or DELETE without If-Match or If-None-Match, so that nobody overwrites a change that they have not seen."`
}

type mqttFlag struct {
	MQTTListen  string `name:"mqtt-listen" env:"CAIRN_MQTT_LISTEN" placeholder:"HOST:PORT" help:"Where to listen for devices that publish by MQTT 3.1.1, such as :1883; encrypted with --tls-cert. Empty: off."`
	MQTTTLSCert string `name:"mqtt-tls-cert" env:"CAIRN_MQTT_TLS_CERT" type:"path" placeholder:"FILE" help:"Certificate for MQTT alone, PEM, for use with a proxy that terminates HTTPS. Default: --tls-cert."`
	MQTTTLSKey  string `name:"mqtt-tls-key" env:"CAIRN_MQTT_TLS_KEY" type:"path" placeholder:"FILE" help:"Private key of the certificate, PEM."`
}

// open binds the address; nil: there is none.
func (f mqttFlag) open(w webFlags, log *slog.Logger) (*ingest.MQTT, error) {
	if f.MQTTListen == "" {
		return nil, nil //nolint:nilnil // off
	}
	if _, err := w.authority(f.MQTTListen, log); err != nil {
		return nil, err
	}
	cert, key := f.MQTTTLSCert, f.MQTTTLSKey
	if (cert == "") != (key == "") {
		return nil, usagef("--mqtt-tls-cert and --mqtt-tls-key go together")
	}
	if cert == "" {
		cert, key = w.TLSCert, w.TLSKey
	}
	m := &ingest.MQTT{}
	var err error
	if cert != "" {
		if m.TLS, err = web.LoadTLS(cert, key, log); err != nil {
			return nil, usageError{err}
		}
		m.TLS.NextProtos = nil // those are HTTP's
	}
	if m.Listener, err = net.Listen("tcp", f.MQTTListen); err != nil {
		return nil, fmt.Errorf("listen for MQTT: %w", err)
	}
	log.Info("listening for MQTT", "address", m.Listener.Addr().String())
	return m, nil
}

type formsFlag struct {
	DeviceForms string `name:"device-forms" env:"CAIRN_DEVICE_FORMS" type:"path" placeholder:"FILE" help:"JSON file that describes what further programs send to /point/from/PROGRAM."`
}

func (f formsFlag) read() (device.Forms, error) {
	if f.DeviceForms == "" {
		return nil, nil //nolint:nilnil // those that are built in
	}
	file, err := os.Open(f.DeviceForms)
	if err != nil {
		return nil, usageError{fmt.Errorf("--device-forms: %w", err)}
	}
	defer file.Close() //nolint:errcheck // it was read only
	data, err := io.ReadAll(io.LimitReader(file, device.MaxFormsBytes+1))
	if err != nil {
		return nil, usageError{fmt.Errorf("--device-forms: %w", err)}
	}
	forms, err := device.ReadForms(data)
	if err != nil {
		return nil, usageError{fmt.Errorf("--device-forms %s: %w", f.DeviceForms, err)}
	}
	return forms, nil
}

// deviceFlags are how devices send.
type deviceFlags struct {
	mqttFlag
	formsFlag
}

func (f deviceFlags) open(w webFlags, log *slog.Logger) (*ingest.MQTT, device.Forms, error) {
	forms, err := f.formsFlag.read()
	if err != nil {
		return nil, nil, err
	}
	mqtt, err := f.mqttFlag.open(w, log)
	return mqtt, forms, err
}

type replayFlags struct {
	ReplayAge   time.Duration `default:"${replay_age}" env:"CAIRN_REPLAY_AGE" placeholder:"DURATION" help:"How long projected events stay in the stream (${default}), unless room is needed."`
	ReplayBytes int64         `env:"CAIRN_REPLAY_BYTES" placeholder:"BYTES" help:"Maximum size of the projected events that stay; 0: half of --max-bytes."`
}

type lagFlag struct {
	MaxLag time.Duration `env:"CAIRN_MAX_LAG" placeholder:"DURATION" help:"Report not ready while the database, if it is a standby, lags behind by more than this, such as 10s; 0: no limit."`
}

type standbysFlag struct {
	TrimStandbys string `default:"auto" env:"CAIRN_TRIM_STANDBYS" placeholder:"auto|off|N" help:"Which standbys must have replicated an event before it is removed from the stream, since one of them may be promoted: all that are connected or have a slot (${default}), none (off), or all, and at least N."`
}

func (f standbysFlag) which() (projector.TrimStandbys, error) {
	which, err := projector.ParseTrimStandbys(f.TrimStandbys)
	if err != nil {
		return which, usagef("--trim-standbys: %w", err)
	}
	return which, nil
}

func (f replayFlags) window() projector.ReplayWindow {
	return projector.ReplayWindow{Age: f.ReplayAge, Bytes: f.ReplayBytes}
}

type mapFlag struct {
	MapStyle string `env:"CAIRN_MAP_STYLE" placeholder:"URL" help:"MapLibre style that the map page at / draws under the points. Empty: the built-in outline of the world, which needs no network."`
}

type keepFlag struct {
	Keep age `env:"CAIRN_KEEP" placeholder:"AGE" help:"How long points are kept after they were received, such as 90d or 36h; older ones are dropped, with their ids, one segment at a time. Empty: forever."`
}

type hookFlag struct {
	HookNetworks []netip.Prefix `env:"CAIRN_HOOK_NETWORKS" placeholder:"NETWORK,…" help:"Private networks that hooks may send to, such as 10.1.2.0/24 or 127.0.0.1/32 (none)."`
}

// An age is a duration that may be in days, of 24 hours.
type age time.Duration

// UnmarshalText reads 90d, 36h, 90m, or empty for none.
func (a *age) UnmarshalText(text []byte) error {
	s := string(text)
	if s == "" {
		*a = 0
		return nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil || !(n > 0 && n <= maxKeepDays) {
			return fmt.Errorf("%q is not a number of days such as 90d", s)
		}
		*a = age(n * 24 * float64(time.Hour))
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is not an age such as 90d or 36h", s)
	}
	*a = age(d)
	return nil
}

// maxKeepDays is a century: what is longer is forever.
const maxKeepDays = 36_525

// listenHost is how a person on this machine reaches what listens on address.
func listenHost(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
