package pool

import (
	"errors"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
)

// Errors that callers match.
var (
	// ErrOverloaded: too many callers wait. Nothing was run.
	ErrOverloaded = errors.New("too many callers wait for the database")
	// ErrUnknown: the caller's context ended while the outcome was open. What the
	// function writes may be there, or come to be there.
	ErrUnknown = errors.New("outcome is unknown")
	// ErrClosed: the pools are closed.
	ErrClosed = errors.New("database pools are closed")
)

// Answers that are not certain, so the function runs again.
var (
	errUnconfirmed = errors.New("commit was not confirmed by a standby")
	errRetargeted  = errors.New("the primary changed")
	errOtherEpoch  = errors.New("the node is not the primary of this epoch any more")
	errNoLease     = errors.New("the lease ended before the answer")
)

// reason says why a try is repeated.
type reason string

const (
	reasonNone        reason = "" // the error is the answer
	reasonConnection  reason = "connection"
	reasonShutdown    reason = "shutdown"
	reasonReadOnly    reason = "read_only" // not promoted yet, or no longer a primary
	reasonConflict    reason = "conflict"
	reasonCrowded     reason = "crowded"   // the server has no connection left
	reasonFull        reason = "disk_full" // until somebody makes room, or the server dies of it and another takes over
	reasonClosed      reason = "closed"    // a primary that restarted in place lets nobody in until its agent has heard of the opening
	reasonUnconfirmed reason = "unconfirmed"
	reasonRetargeted  reason = "retargeted"
	reasonLease       reason = "lease" // it ended before the answer
)

// certain reports whether a try that failed for this reason has written nothing.
func (r reason) certain() bool {
	switch r {
	case reasonReadOnly, reasonConflict, reasonCrowded, reasonFull, reasonClosed, reasonNone:
		return true
	case reasonConnection, reasonShutdown, reasonUnconfirmed, reasonRetargeted, reasonLease:
		return false
	}
	return false
}

// retryReason is the table of the errors that are worth another try. lost says
// that the connection is gone: what the client library or the function make of
// that, unlike an error from the server, has no code to look at.
func retryReason(err error, lost bool) reason {
	switch {
	case errors.Is(err, errUnconfirmed):
		return reasonUnconfirmed
	case errors.Is(err, errRetargeted):
		return reasonRetargeted
	case errors.Is(err, errOtherEpoch):
		return reasonReadOnly
	case errors.Is(err, errNoLease):
		return reasonLease
	}
	pgErr, fromServer := errors.AsType[*pgconn.PgError](err)
	if !fromServer {
		if lost {
			return reasonConnection
		}
		return reasonNone
	}
	switch pgErr.Code {
	case pgerrcode.AdminShutdown, pgerrcode.CrashShutdown, pgerrcode.CannotConnectNow:
		return reasonShutdown
	case pgerrcode.ReadOnlySQLTransaction:
		return reasonReadOnly
	case pgerrcode.SerializationFailure, pgerrcode.DeadlockDetected:
		return reasonConflict
	case pgerrcode.TooManyConnections:
		return reasonCrowded
	case pgerrcode.DiskFull:
		return reasonFull
	case pgerrcode.InvalidAuthorizationSpecification:
		return reasonClosed
	}
	if pgerrcode.IsConnectionException(pgErr.Code) {
		return reasonConnection
	}
	return reasonNone
}

// saysUnconfirmed recognises the warnings that a commit's wait for replication
// was cancelled, by a cancel or by a terminate. The routine's name, unlike the
// text, is not translated.
func saysUnconfirmed(n *pgconn.Notice) bool {
	return n.Routine == "SyncRepWaitForLSN" || strings.Contains(n.Message, "wait for synchronous replication")
}
