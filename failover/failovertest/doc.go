// Package failovertest runs failover.Step against a model of a cluster: seeded,
// single-threaded and in virtual time, so that a failing history replays.
//
// The model stands in for everything around the rules and none of it is kinder
// than the real thing:
//
//   - PostgreSQL is a list of WAL records on each node. All records have one size,
//     so that an LSN is the length of the list and two timelines that fork at one
//     LSN look alike by number. Each walsender has its own copy of the sync names,
//     reloaded late; it alone decides, as in SyncRepReleaseWaiters, when a commit
//     is acknowledged. Each standby has a slot, so no more than one walsender. A
//     crash keeps commits that were waiting. A standby checks timeline numbers and
//     LSNs only, as PostgreSQL does.
//   - The agent obeys the contract of pgcluster.OrderKind one slow step at a time.
//     It may die between any two; its pledge, its led and its followed epoch do not.
//   - Raft is an atomic register whose leader changes. A deposed leader goes on
//     giving orders for a while and fails to save, or so it believes: what it tried
//     to save may be agreed on without it.
//   - The network delays, duplicates, loses, reorders and cuts, one way or both.
//   - Clients write over the pool of any node, by its idea of who is open, however old.
//     They also read: what a session showed counts once it could commit after that.
//
// Every acknowledged commit is remembered by identity. Check failures name the
// invariant of package failover, or say "lost", "diverged" or "stuck".
package failovertest
