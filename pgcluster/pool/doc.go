// Package pool keeps warm connections to every PostgreSQL of the cluster, with
// their statements prepared, and runs work on whichever is the open primary.
//
// A change of primary is one atomic swap (Retarget), without a reconnect, a new
// prepare or a name lookup: sessions on a hot standby survive its promotion and
// turn writable, and what was prepared on them runs. The connections to the old
// primary are closed at once, so that nothing goes on waiting for it.
//
// Do returns nil only if what its function wrote is certain: the commit was
// acknowledged by the synchronous standbys, in the epoch that is still current.
// Everything else is unknown and run again:
//
//   - A connection lost while a statement ran, which may have been the commit.
//   - A commit that returned with the warning that its wait for replication was
//     cancelled. Its rows are now visible though no standby may have them, and
//     a second try that only reads them back would not wait for anything. So
//     after such a doubt, an answer counts only once a small commit that came
//     after it was acknowledged: standbys flush WAL in order.
//   - An answer from an epoch that has passed.
//
// For the same reason no statement is ever cancelled on the server: a cancel
// request, which pgx sends when it gives up a connection, could hit a commit that
// waits for its standby, and is refused when it wants to dial.
//
// The package does not decide who is primary; package failover does. It does no
// pooling for other programs.
package pool
