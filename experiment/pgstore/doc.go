// Package pgstore keeps experiments, assignments, exposures and events in
// PostgreSQL and answers from there.
//
// Definitions are versioned as a whole. Every node serves from a snapshot of one
// version, follows changes by LISTEN with a poll behind it, and reads a unit's
// rows together with the version they belong to. A transaction that writes
// assignments first takes the definitions lock in shared mode and checks that its
// version is still the current one; a change of definitions takes the lock alone.
// So all assignments of a version are visible before the next version is, and
// slots, stops and pauses hold exactly although each node decides in memory.
//
// Writes are collected into an adaptive group commit: a flush begins when the one
// before it has returned and takes along whatever came in between. There is no
// timer; a lone request does not wait. Nothing is acknowledged before its commit
// has returned. Every write is idempotent, so that a commit with an unknown
// outcome is sent again: rows that the first try stored are then found and
// answered as what they are, the caller's own. What is answered from rows that were
// found waits for a commit too (prove.go).
//
// Assignments are written once, so the cache of units is never invalidated by
// another unit's request. An entry counts only for the version of definitions and
// the stretch between two schedule boundaries that it was read in, since within
// them no other node can have enrolled the unit where this one would refuse it.
package pgstore
