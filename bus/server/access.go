package server

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cairn/bus"
)

// The roles that take requests from outside, and whoever has no password, have an
// account each, into which only what they need is imported. Permissions alone do
// not hold: JetStream answers to whatever reply subject a request names, as the
// server itself, whom no permission binds. In one account with the stream, a
// request that only looks could so be aimed at a purge or at the stream's own
// subject. From an account of its own it can be aimed at that account's few
// imports and at nothing else.
//
// The projector and the administrator are in the account of the streams. Either
// may purge by right, so their passwords are the queue's keys. (A projector in an
// account of its own got no more messages after one restart of the server in four:
// pulls do not cross accounts reliably in nats-server 2.15.)
const (
	// account has the streams, and the administrator.
	account = "CAIRN"
	// formerAccount had them before there were accounts: the server's default.
	formerAccount = "$G"
)

// An access is what the account of a user can reach in [account].
type access struct {
	// services are the subjects of requests.
	services []string
	// announcements are the subjects of announcements that it may subscribe to.
	announcements []string
	// instead are the subjects where requests come to that JetStream does not answer itself.
	instead map[string]string
	// limits bound what its connections may use, as the server's configuration has them.
	limits string
}

// inspectors bounds the user without a password: a connection of which nobody reads has up
// to maxPending bytes in memory, and a subscription some hundred.
const inspectors = "max_connections: 16, max_subscriptions: 256, max_payload: 65536"

const (
	api = "$JS.API."
	// apiInfo is imported into every account: where it is not, the server gives
	// the account the whole of the API instead, which then refuses each request
	// before the imports can answer it.
	apiInfo = api + "INFO"
	// inboxes are where answers come to, answers where those go to that other
	// accounts wait for.
	inboxes = "_INBOX.>"
	answers = "_R_.>"
)

// readKeys lets a role follow the bucket of access keys.
var readKeys = []string{api + "STREAM.INFO." + bus.KeysStream, api + "DIRECT.GET." + bus.KeysStream}

var accesses = map[string]access{
	bus.UserIngest: {
		services: append([]string{
			bus.Subject, api + "STREAM.INFO." + bus.Stream, bus.SubjectRead, bus.SubjectKeep,
			"$KV." + bus.UploadsBucket + ".*", api + "DIRECT.GET." + bus.UploadsStream + ".$KV." + bus.UploadsBucket + ".*",
		}, readKeys...),
		announcements: []string{bus.SubjectApplied},
	},
	bus.UserQuery: {
		services:      readKeys,
		announcements: []string{bus.SubjectApplied},
	},
	bus.UserInspect: {
		limits:  inspectors,
		instead: map[string]string{direct: subjectGet},
		services: []string{
			apiInfo, api + "STREAM.NAMES", api + "STREAM.LIST", api + "STREAM.INFO." + bus.Stream,
			api + "STREAM.MSG.GET." + bus.Stream, direct, direct + ".>",
			api + "CONSUMER.NAMES." + bus.Stream, api + "CONSUMER.LIST." + bus.Stream, api + "CONSUMER.INFO." + bus.Stream + ".*",
		},
		announcements: []string{bus.SubjectApplied},
	},
}

// insiders are the users in [account], with what they may publish to and hear.
var insiders = map[string]struct{ publish, subscribe []string }{
	// The projector makes the stream, for which it asks the nodes how much disk they
	// have, reads it, trims it, for which it asks where it can be cut off, announces how far it is, answers for single points, and keeps fences and hooks.
	bus.UserProjector: {
		publish: append([]string{
			api + "STREAM.INFO." + bus.Stream, api + "STREAM.CREATE." + bus.Stream, api + "STREAM.PURGE." + bus.Stream,
			api + "STREAM.CREATE." + bus.UploadsStream,
			api + "STREAM.MSG.GET." + bus.Stream, api + "DIRECT.GET." + bus.Stream,
			api + "CONSUMER.CREATE." + bus.Stream + ".*", api + "CONSUMER.INFO." + bus.Stream + ".*",
			api + "CONSUMER.DELETE." + bus.Stream + ".*", api + "CONSUMER.RESET." + bus.Stream + ".*",
			api + "CONSUMER.MSG.NEXT." + bus.Stream + ".*", "$JS.ACK." + bus.Stream + ".>",
			bus.SubjectApplied, answers, bus.SubjectNode, bus.SubjectCut,
		}, readKeys...),
		subscribe: []string{inboxes, bus.SubjectRead, bus.SubjectKeep},
	},
	// The administrator backs up, restores, salvages, publishes what was parked
	// again and hears what becomes of it, and keeps the access keys.
	bus.UserAdmin: {
		publish: []string{
			apiInfo, api + "STREAM.>", api + "DIRECT.GET.>", api + "CONSUMER.>", "$JS.SNAPSHOT.>",
			bus.Subject, bus.SalvageSubject, bus.SalvageAgain, "$KV." + bus.KeysBucket + ".>", bus.SubjectNode,
		},
		subscribe: []string{inboxes, bus.SubjectApplied},
	},
	userNode: {
		publish: []string{
			apiInfo, api + "STREAM.INFO.*", api + "STREAM.UPDATE.*", api + "STREAM.RESTORE.*", api + "STREAM.DELETE.*", "$JS.SNAPSHOT.RESTORE.>", inboxes,
			api + "STREAM.LEADER.STEPDOWN.*", api + "CONSUMER.LEADER.STEPDOWN.*.*",
		},
		subscribe: []string{inboxes, bus.SubjectNode},
	},
	userStore:  {publish: []string{inboxes, answers, direct}, subscribe: []string{inboxes, bus.SubjectCut, subjectGet}},
	userWriter: {publish: []string{bus.Subject}, subscribe: []string{inboxes}},
}

// userNode is a node of a cluster, as the client of its own server: it asks the
// stream's leader how things are, raises the number of copies, takes in what was
// adopted (and removes what of that came in part only), has another node lead when it
// stops, and says how it is itself.
// Its password never leaves the process.
const userNode = "node"

// userWriter is the ingest role of the server's own process, for what it writes: an
// import on the way costs 3 % of a single POST. It can be in the account of
// the streams because nothing from outside names a subject there, and its password
// never leaves the process.
const userWriter = "writer"

// userStore is the server's process, where it answers for the store's files, and for the
// user without a password. Its password
// never leaves the process.
const userStore = "store"

// accountOf is the account of a user.
func accountOf(user string) string {
	if _, inside := insiders[user]; inside {
		return account
	}
	return strings.ToUpper(user)
}

// configFile sets accounts and users in the server's own configuration language:
// set in code, the stream lost its leader after a restart (nats-server 6890).
func configFile(cfg Config, open bool) string {
	var users, exports, accounts strings.Builder
	for _, user := range slices.Sorted(maps.Keys(insiders)) {
		if user == userNode && cfg.Cluster == nil {
			continue
		}
		users.WriteString(userLine(cfg, user, insiders[user].publish, insiders[user].subscribe))
	}
	for _, user := range slices.Sorted(maps.Keys(accesses)) {
		a, name := accesses[user], accountOf(user)
		subscribe := append([]string{inboxes}, a.announcements...)
		fmt.Fprintf(&accounts, "%s: { users: [%s], limits: { %s }, imports: [\n", name, userLine(cfg, user, a.services, subscribe), a.limits)
		for _, subject := range a.imports() {
			// Some are answered with more than one message.
			answered := cmp.Or(a.instead[subject], subject)
			fmt.Fprintf(&exports, "{ service: %q, response_type: stream, accounts: [%s] }\n", answered, name)
			fmt.Fprintf(&accounts, "{ service: { account: %s, subject: %q }, to: %q }\n", account, answered, subject)
		}
		for _, subject := range a.announcements {
			fmt.Fprintf(&exports, "{ stream: %q, accounts: [%s] }\n", subject, name)
			fmt.Fprintf(&accounts, "{ stream: { account: %s, subject: %q } }\n", account, subject)
		}
		accounts.WriteString("] }\n")
	}
	text := fmt.Sprintf("accounts {\n%s: { jetstream: enabled, users: [\n%s], exports: [\n%s] }\n%s}\n", account, &users, &exports, &accounts)
	if cfg.Cluster != nil {
		text += cfg.Cluster.config()
	}
	if open {
		text += fmt.Sprintf("no_auth_user: %s\n", bus.UserInspect)
	}
	return text
}

// imports are the requests that are imported into the user's account.
func (a access) imports() []string {
	if slices.Contains(a.services, apiInfo) {
		return a.services
	}
	return append([]string{apiInfo}, a.services...)
}

func userLine(cfg Config, user string, publish, subscribe []string) string {
	return fmt.Sprintf("{ user: %s, password: %q, permissions: { publish: [%s], subscribe: [%s] } }\n",
		user, passwordOf(cfg, user), quoted(publish), quoted(subscribe))
}

func passwordOf(cfg Config, user string) string {
	switch user {
	case userNode, userStore, userWriter:
		return cfg.ownPassword
	}
	return cfg.Passwords[user]
}

func quoted(subjects []string) string { return `"` + strings.Join(subjects, `", "`) + `"` }

// adoptStore moves a store that was written before there were accounts to where
// the server looks for the account's streams now. The rename is whole or not at
// all; a second account's store is left alone.
func adoptStore(dir string) error {
	parent := filepath.Join(dir, "jetstream")
	former, now := filepath.Join(parent, formerAccount), filepath.Join(parent, account)
	if _, err := os.Stat(now); err == nil {
		return nil
	}
	if _, err := os.Stat(filepath.Join(former, "streams")); err != nil {
		return nil //nolint:nilerr // there is none: nothing to move
	}
	if err := os.Rename(former, now); err != nil {
		return fmt.Errorf("move the queue's store into its account: %w", err)
	}
	folder, err := os.Open(parent)
	if err != nil {
		return fmt.Errorf("move the queue's store into its account: %w", err)
	}
	defer folder.Close()
	if err := folder.Sync(); err != nil {
		return fmt.Errorf("move the queue's store into its account: %w", err)
	}
	return nil
}
