// Package raftstore replicates the failover.State through Raft (hashicorp/raft)
// and keeps it on this node's disk.
//
// A state is saved whole, as one log entry, and only if it was decided on the
// current one: entries carry the log index of the state they follow, and every
// node applies the same comparison. So a decision taken on an old view can never
// overwrite a newer one, whoever leads. Heartbeats and positions of PostgreSQL
// never enter the log.
//
// The first voters are the members given to Open, identical on all of them. Later
// the leader adds and removes servers one by one (ChangeGroup), as package failover
// decides. The package decides nothing about PostgreSQL and knows no rules of failover.
package raftstore
