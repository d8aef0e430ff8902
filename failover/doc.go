// Package failover decides who is primary of a PostgreSQL cluster, whom it waits
// for before it acknowledges a commit, and how the role moves.
//
// It is a pure state machine. Step reads the State that Raft agreed on and a View
// of the nodes and returns the next State and the orders that follow from it. It
// does no I/O, starts no goroutine and reads no clock, so that tests and a
// simulator drive every path. The driver (failover/controller) saves a changed
// state before it sends the orders that rest on it.
//
// # Safety
//
// No clock is trusted. With synchronous_standby_names = ANY k (S) and n = |S|, a
// failover recruits n-k+1 members of S: each makes a pledge to the next epoch
// durable and cuts its stream for good. Whichever they are, one of them has every
// acknowledged commit, and too few are left for the old primary to acknowledge
// another. The old primary itself, stopped and pledged, is as good as all of them.
//
// Invariants. The histories in failovertest check each wherever it could break, I3 at
// every change of what was agreed, of the rule in force and of who applies it:
//
//	I1  the epoch only grows; an agent refuses orders below its durable stamp
//	I2  a primary opens to clients only in state open(epoch) held by it
//	I3  with (S, k) in force on an open primary, for new commits and by each walsender,
//	    and (R, q) to recruit: k + q > |S ∪ R| and one of the sets contains the other
//	I4  a member of S never streams from an epoch below its pledge
//	I5  k = 0 only while k = 0 is recorded: then q is more than there are in R, and
//	    nobody is promoted but the primary itself, or who has all of its log once it
//	    has ended and pledged
//	I6  a candidate is at or above the floor and on its lineage
//	I7  no initdb and no clone over the data of a primary; no initdb at all once the
//	    system id is recorded
//	I8  what a client was told is committed is in the WAL of every later primary, at the
//	    same place
//
// # Operations
//
//	bootstrap   init ──────────────────────► barrier ─► open
//	failover    recruit ─────► promote ────► barrier ─► open
//	switchover  checkpoint ─► stop ─► promote ─► barrier ─► open
//	adopt       adopt ────────────────────► barrier ─► open
//	restart     restart (each standby), then like a switchover; or
//	            checkpoint ─► stop ─► recruit ─► promote ─► barrier ─► open ─► restart
//
// A promotion that fails moves to recruit with the next epoch. A switchover that
// fails after the stop moves to recruit too, where the old primary is the first
// choice. Nothing is acknowledged to clients between the first phase that closes
// the primary and open, which is what makes every step repeatable.
//
// # Changing the sync set
//
// What makes a failover recruit more goes to Raft first and to PostgreSQL second: a
// member that is added, and a smaller k. What lets it recruit fewer goes to PostgreSQL
// first: a member that is removed, and a greater k. Raft learns of it (Sync.Pending
// becomes Sync.Durable) once nobody acknowledges by the old rule any more, and the new
// one is met by everything that was acknowledged until then (Sync.Mark). A removed
// member's walsender shows that it no longer counts; the k that a walsender applies
// shows nowhere, so each must first come round since the rule was in force (Sync.Past).
// So the set that a failover recruits from always contains the set in force, and its k
// is never greater. Two changes are never under way at once.
//
// How many to wait for says State.K, whom waitable and zones in this package. In
// ModeAvailable, k is lowered as standbys are lost. An operation never raises k.
//
// The same rule may be ordered again after another. Rules are numbered (Sync.Seq)
// and the number is reported back, so that a report of the first time, or of names
// that a walsender has not loaded, does not pass for the second.
//
// # Doing without a node
//
// People may have the cluster do without a node (State.Absent): to work on its host, to
// keep it stopped, or to have its data made anew. It leaves the sync set first; until then
// it is treated like any other. It is never chosen. A reclone has a number, and its agent
// makes a copy once for each, so that an order which comes late takes no data away; see
// docs/decisions/operate.md.
//
// # Whose WAL
//
// Timeline numbers repeat: two promotions from one point make the same one, and
// PostgreSQL streams between them without noticing. So nodes report the epoch that
// last wrote to their WAL (Led, Followed). Who has WAL of an epoch that never opened
// is no candidate later on, and is cloned unless the primary comes from that WAL too
// (Base). A node that may have joined such an epoch since its report pledges first.
package failover
