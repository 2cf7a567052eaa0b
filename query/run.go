// Package query is the reading half of Cairn: rows of PostGIS in, GeoJSON out.
// It stands at the end of the flow (POST → ingest → bus → projector → schema →
// query → GET), holds no state that a restart would lose, writes nothing and
// publishes nothing, so any number of it may run side by side.
//
// Every answer knows the position that it is true for: rows and checkpoint are
// read by one statement, so in one snapshot. A reader that must see a write
// names the write's position and waits until this database has reached it.
//
// Callers that ask the same share one statement and one encoded answer, which
// serves until the projection moves past its position: what reading costs the
// database grows with the requests and the commits, not with the readers. The
// projector's announcements, over NATS, tell at once when that is; without them
// the checkpoint is looked at four times a second.
//
// When the database is unreachable, what is kept is answered on, labelled with its
// position and its age, and everything else with 503 and Retry-After. The role needs
// neither a database nor a NATS server to start.
package query

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/auth"
	"cairn/internal/garbage"
	"cairn/internal/hosts"
	"cairn/internal/web"
	"cairn/query/answer"
	"cairn/query/page"
	"cairn/query/plan"
)

// Config is what the role needs.
type Config struct {
	Server      *web.Server
	DatabaseURL string
	// Bus is where the projector's announcements are heard. They save polling;
	// nothing that is answered rests on them.
	Bus bus.Endpoint
	// Writable: the ingest role is in this process, and takes writes under
	// /collections.
	Writable bool
	// IngestURL is where writes under /collections are passed on to, if they are.
	IngestURL string
	// MapStyle is the URL of a MapLibre style that the map page draws under the
	// points; "" for the outline of the world that is in the binary.
	MapStyle string
	// MaxLag is how far the database may be behind what was projected for the role to be
	// ready; 0: however far.
	MaxLag time.Duration
	// Hint is where the ingest role beside says what its writers know.
	Hint *bus.Hint
	Log  *slog.Logger
}

// A service answers requests until its context ends.
type service struct {
	log      *slog.Logger
	server   *web.Server
	writable bool
	// forwarder passes writes on; nil where ingest is beside, or nowhere.
	forwarder *forwarder
	primaries *hosts.Seen   // those that were seen
	several   bool          // it is several servers
	maxLag    time.Duration // 0: none
	pool      *pgxpool.Pool
	long      *pgxpool.Pool // of tracks and downloads
	feed      *pgxpool.Pool // of the change feed and the tracker
	reader    *plan.Reader
	metrics   *metrics
	tracker   *answer.Tracker
	cache     *answer.Cache
	floorSeen atomic.Int64 // the highest floor that was read
	shown     atomic.Int64 // names that readers of an area may show
	// stopping ends the waits, not the statements, which are bounded anyhow
	// and which a drain lets finish.
	stopping context.Context

	memory   *memory
	sample   sample
	tiles    *tiler
	mapPage  *page.Page
	tail     *tail
	newest   *tail           // of the newest point of each name
	fences   *tail           // of who enters and leaves areas
	rest     rest            // between two readings for it
	draining context.Context // ends first: streams must, for the server to drain
	streams  chan struct{}   // a place each that is open
	// streamShares are the places that one client address may have.
	streamShares      *web.Shares
	turns             chan struct{} // a place each that reads the table on its own
	places            *places       // for those that do, until it is written
	downloads, tracks *slots
	making            chan struct{} // a place each that makes a large page
}

// Run answers requests until ctx ends. When it returns, its connections to the
// database are closed.
func Run(ctx context.Context, cfg Config) error {
	s, err := open(ctx, cfg)
	if err != nil {
		return err
	}
	nc, err := bus.Connect(cfg.Bus, cfg.Log)
	if err != nil {
		s.close()
		return err
	}
	defer nc.Close()
	if err := bus.OnApplied(nc, s.heard); err != nil {
		s.close()
		return fmt.Errorf("listen to announcements: %w", err)
	}
	cfg.Hint.OnNotify(s.tracker.Saw)
	s.run(ctx, cfg.Server)
	return nil
}

func (s *service) run(ctx context.Context, server *web.Server) {
	defer s.close()
	defer garbage.Count(s.heldBytes)()
	server.Mount(web.Role{
		Name:   "query",
		Routes: s.routes(),
		// A refusal is a correct answer too: a database that is down, which
		// all replicas share, shows in /status and empties no proxy's list.
		Ready:  s.ready,
		Status: s.status,
	})
	var group sync.WaitGroup
	group.Go(func() { s.tail.run(ctx) })
	group.Go(func() { s.newest.run(ctx) })
	group.Go(func() { s.fences.run(ctx) })
	group.Go(func() { s.watchLag(ctx) })
	group.Go(func() { s.reader.KeepWarm(ctx) })
	s.tracker.Run(ctx)
	group.Wait()
	for range maxStreams { // who has all places is alone
		s.streams <- struct{}{}
	}
}

func (s *service) close() {
	s.pool.Close()
	s.long.Close()
	s.feed.Close()
}

func open(ctx context.Context, cfg Config) (*service, error) {
	seen := &hosts.Seen{}
	pool, err := openPool(ctx, cfg.DatabaseURL, seen)
	if err != nil {
		return nil, err
	}
	long, err := plan.LongPool(ctx, pool)
	if err != nil {
		pool.Close()
		return nil, err
	}
	feed, err := openFeedPool(ctx, pool)
	if err != nil {
		pool.Close()
		long.Close()
		return nil, err
	}
	s := &service{primaries: seen, several: hosts.Several(&pool.Config().ConnConfig.Config), maxLag: cfg.MaxLag, log: cfg.Log, server: cfg.Server, writable: cfg.Writable || cfg.IngestURL != "", pool: pool, long: long, feed: feed, stopping: ctx,
		streams: make(chan struct{}, maxStreams), streamShares: web.NewShares("streams", addressStreams), turns: make(chan struct{}, catchUps), places: newPlaces(catchUpPlaces),
		downloads: newSlots("downloads", maxDownloads, addressDownloads), tracks: newSlots("tracks", maxTracks, addressTracks), making: newMaking()}
	// Whichever comes first: the server's drain, or the role's own end.
	draining, drain := context.WithCancel(ctx)
	context.AfterFunc(cfg.Server.Stopping(), drain)
	s.draining = draining
	if cfg.IngestURL != "" {
		if s.forwarder, err = newForwarder(cfg.IngestURL, cfg.Server, func(sequence uint64) { s.tracker.Saw(sequence) }); err != nil {
			s.close()
			return nil, err
		}
	}
	s.metrics = newMetrics(cfg.Server.Registry())
	s.reader = plan.New(pool, long, s.metrics.observe)
	s.tracker = answer.NewTracker(s.checkpoint, s.wentBack)
	s.cache = answer.NewCache(ctx, s.tracker, cfg.Log, cfg.Server.Registry(), answer.Bytes)
	s.cache.Again(s.again)
	registerLag(cfg.Server.Registry(), s)
	registerHeld(cfg.Server.Registry(), s)
	s.tiles = newTiler(ctx, s.reader)
	if s.mapPage, err = page.New(cfg.MapStyle); err != nil {
		s.close()
		return nil, err
	}
	if !s.mapPage.Whole {
		cfg.Log.Warn("this binary was built without the map page: / only says so (make page, then make build)")
	}
	s.memory = newMemory(memoryBytes(), s.tracker.Now, s.older, cfg.Server.Registry())
	s.tail = newTail(s.tracker, s.changes, s.floor, s.memory, s.metrics.streams)
	s.newest = newTail(s.tracker, s.latestChanges, s.floor, nil, s.metrics.streams)
	s.newest.retained = s.retained
	s.fences = newTail(s.tracker, s.fenceChanges, s.floor, nil, s.metrics.streams)
	return s, nil
}

func (s *service) routes() []web.Route {
	return append(slices.Concat(s.siteRoutes(), s.mapRoutes(), s.fenceRoutes(), s.hookRoutes()),
		web.Route{Method: http.MethodGet, Path: "/points", Scope: auth.Read, Areas: true, Handler: s.getPoints},
		web.Route{Method: http.MethodGet, Path: "/points/:id", Scope: auth.Read, Areas: true, Handler: s.getPoint},
		web.Route{Method: http.MethodGet, Path: "/points.:format", Scope: auth.Read, Areas: true, Handler: s.getDownload},
		web.Route{Method: http.MethodGet, Path: "/latest", Scope: auth.Read, Areas: true, Handler: s.getLatest},
		web.Route{Method: http.MethodGet, Path: "/tracks", Scope: auth.Read, Handler: s.getTracks},
		web.Route{Method: http.MethodGet, Path: "/tracks/+", Scope: auth.Read, Areas: true, Handler: s.getTrack},
		web.Route{Method: http.MethodGet, Path: "/stream", Scope: auth.Read, Areas: true, Handler: s.getStream},
	)
}

// wentBack drops answers from a future that the database no longer has.
func (s *service) wentBack() {
	s.log.Warn("the database has gone back; dropped what was kept of it")
	s.tail.wentBack()
	s.newest.wentBack()
	s.fences.wentBack()
	s.tiles.clear()
	s.cache.Clear()
	s.floorSeen.Store(0)
}

// forget drops what is kept of points that retention has dropped: no event tells of
// that, so without a write answers would show them for as long as they are asked for.
func (s *service) forget(below event.Position) {
	s.memory.forget(below)
	s.cache.Clear()
	s.newest.owe()
}
