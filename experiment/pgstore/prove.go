package pgstore

// A row that is visible need not be on a standby: a commit whose wait was cut short, by
// a cancel or by the end of its session, leaves one that dies with its host. Whoever
// committed it was not told that it succeeded, but nobody else can tell. So an answer
// that rests on what a transaction found, and not on what it wrote, is given only after
// a commit of its own, which waits for the standbys, and with it for all that was
// visible before. Only a commit that writes waits; an assigned transaction id alone
// would not do.
const proveSQL = `SELECT pg_logical_emit_message(true, 'xpd', '')`

// proveUnwrittenSQL is proveSQL for the end of a transaction that may have written, and
// then needs no other proof.
const proveUnwrittenSQL = proveSQL + ` WHERE pg_current_xact_id_if_assigned() IS NULL`
