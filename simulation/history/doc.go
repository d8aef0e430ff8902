// Package history judges what clients of a cluster saw, call by call.
//
// WriteOnce checks that all answers about a place that is written once fit one
// order of events, with what the tables say at the end as the last read. Ledger
// goes around the service: it writes to the PostgreSQL of every node at the same
// time, the way the most stubborn client would, and checks that no commit which was
// acknowledged is lost, that one node alone acknowledged on each timeline, and
// that the order of commits in the log is the one that clients saw.
//
// It is for tests; the daemon does not contain it.
package history
