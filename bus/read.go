package bus

// SubjectRead is where the projector answers for single points: ingest, which
// knows no database, asks there before it merges a patch.
const SubjectRead = "cairn.read"
