package bus

import "cairn/internal/auth/bucket"

// The users of the NATS server. Each may do what its role needs and no more.
const (
	UserIngest    = "ingest"    // publishes points
	UserProjector = "projector" // owns the stream and its consumer, announces
	UserQuery     = "query"     // receives announcements, publishes nothing
	UserInspect   = "inspect"   // for people and the nats CLI: read-only
	UserAdmin     = "admin"     // for cairn salvage, cairn parked retry, and backups
)

// Nodes is not a user of the server: it is what the nodes of a cluster call each other
// by, where passwords are given by name.
const Nodes = "cluster"

// Users are all of them.
var Users = []string{UserIngest, UserProjector, UserQuery, UserInspect, UserAdmin}

// The bucket of access keys, and the stream that JetStream keeps it in.
const (
	KeysBucket = bucket.Keys
	KeysStream = bucket.KeysStream
)
