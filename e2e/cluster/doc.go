// Package cluster runs three nodes of the queue, a projector and a query service as
// real processes, on real PostGIS, kills, stops, wipes and cuts off the nodes while
// points are written and read, and looks afterwards whether all that was acknowledged
// is there, once. As root each node is in a network namespace of its own, so that it
// can be cut off; else those rounds are left out.
//
//	make e2e-cluster
//	make e2e-cluster ROUNDS=100 SEED=7
//
// TestFailover does the same to the database: a primary with two standbys, of which
// one after the other is promoted.
//
// It fails for what is lost, doubled, changed, or could not be read; the gaps are
// told, not judged: they are ratios of one machine that does all of it.
package cluster
