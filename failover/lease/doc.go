// Package lease bounds how old an answer may be that this node gives from what it
// knows of the primary.
//
// Every node holds a lease of one epoch, renewed several times within its length.
// The leader of Raft grants it, after it has made sure that it still leads. Without
// a leader the primary renews its own by asking the standbys that its commits wait
// for: while k of them have pledged nothing above its epoch, too few are left to
// make another primary. The other nodes then renew out of the primary's lease.
//
// Time is counted by CLOCK_BOOTTIME, which goes on while the host is suspended, from
// before the question: no clock is compared with another's. Writes do not rest on
// the lease but on the quorum of standbys, with one exception: while the primary
// acknowledges alone (k = 0), there is no quorum, and writes wait for the lease too.
// A failover never waits for a lease to end.
//
// # Why k confirmations are enough
//
// The primary counts confirmations by the rule that its own PostgreSQL has in force,
// not by the rule of the agreed state, which it may be the last to hear of. For the
// rule in force (S, k) and the one that a failover recruits q by (R), package failover
// keeps k + q > |S ∪ R| at all times (I3). So with k of S not pledged, at most
// |S ∪ R| - k < q of R can be. Pledges only grow: who has not pledged when it answers
// had not when it was asked. The old primary itself, stopped and pledged, counts for
// everybody, so it looks at its own pledge first. A failover that was forced, which
// accepts that data is lost, may pass all this by.
//
// The package does not decide who is primary and does not close PostgreSQL.
package lease
