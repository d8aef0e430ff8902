// Package pgcluster is the vocabulary of a PostgreSQL cluster: nodes, log
// positions, timelines, synchronous replication sets, what a node reports about
// itself and what it can be ordered to do.
//
// It holds values and their rules only. It does no I/O, starts no goroutine and
// reads no clock; running a PostgreSQL is pgcluster/agent, reaching one is
// pgcluster/pool, and deciding what should happen is package failover.
package pgcluster
