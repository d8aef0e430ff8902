// Package controller drives the rules of package failover: it observes the nodes,
// lets failover.Step decide, saves what was decided in the replicated log and
// only then sends the orders that rest on it.
//
// It observes on every node and all the time, so that a new leader has evidence
// at once; it decides and orders only between winning leadership, a barrier, and
// the next change of the Raft term. Orders carry the epoch, that term and the
// index of the state, and nodes refuse what is older than what they have seen; so
// an order that is still under way when leadership is lost does no harm.
//
// It holds no rule of its own but one: Raft's leader should not be on the
// primary's host, so that one lost host is not two things to recover from.
package controller
