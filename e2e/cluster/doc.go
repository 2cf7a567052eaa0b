// Package cluster runs three nodes of the queue, a projector and a query service as
// real processes, on real PostGIS. It kills, stops, wipes and isolates the nodes while
// points are written and read, and checks afterwards that everything acknowledged is
// there, once. If run by root, each node is in a network namespace of its own, so that
// it can be isolated; otherwise those rounds are left out.
//
//	make e2e-cluster
//	make e2e-cluster ROUNDS=100 SEED=7
//
// TestFailover does the same to the database: a primary with two standbys, which are
// promoted one after the other.
//
// It fails if a point is lost, duplicated or changed, or a read fails. Gaps are
// reported but have no limit, because one machine does all of it.
package cluster
