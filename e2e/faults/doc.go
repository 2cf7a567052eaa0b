// Package faults tries to break what Cairn promises: nothing acknowledged is
// lost, nothing is applied twice, whatever is killed, stopped, cut or filled.
//
// TestFaults is the campaign. A system of real processes (the roles apart, or
// `cairn serve`) stands on a PostGIS of its own, with a small proxy on every
// connection. Writers send points as sensible clients do and note every answer;
// faults strike as the seed says; at the end of each round all is healed and
// settles, and what was acknowledged is compared with what PostGIS holds and
// what GET /points serves.
//
//	go test ./e2e/faults -run TestFaults -args -rounds 300 -seed 7
//
// In the order of a round:
//
//	campaign_test.go   rounds and systems, and what a failure shows
//	schedule_test.go   seed → faults with their times
//	system_test.go     processes, proxies, cluster (proxy_, database_test.go)
//	writer_test.go     what clients send (client_, reader_test.go)
//	change_test.go     how clients change points, and what is then there (changed_test.go)
//	device_test.go     what phones and trackers send, by HTTP and MQTT, and where they are
//	hook_test.go       a fence that devices cross, and a hook whose receiver dies
//	follow_test.go     who follows the stream, and must have the same in the end
//	strike_test.go     how each fault strikes and is healed (full_, maintain_, retention_test.go)
//	check_test.go      the comparison
//	figures_test.go    what the campaign counts
//
// TestDamage (damage_test.go) damages stores and databases while nothing runs,
// and does what the error says. TestPowerCut (powercut_test.go) cuts the power
// of a disk of our own (disk_, fuse_test.go) under a running ingest. TestMigrationKilled
// (migrate_test.go) kills the step from one table to segments.
package faults
