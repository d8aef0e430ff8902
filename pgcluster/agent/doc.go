// Package agent runs the one PostgreSQL of a node: it makes the data directory,
// owns the server process, carries out the orders of the controller and reports
// what it sees.
//
// It decides nothing. Which node leads, who follows whom and when clients may
// write comes in as a [pgcluster.Order], and an order below the stamp that the
// agent has made durable is refused. Orders are goals: the agent tries until the
// goal is reached or a newer order replaces it. The one exception is a server
// that dies by itself: it stays down until somebody orders something, because
// restarting a primary on one's own is what split brains are made of.
//
// # What is where
//
// <Dir>/agent.json holds what the agent must not forget: its pledge, the epoch it
// led, the settings it chose. <Dir>/pg belongs to the operating system user that
// runs PostgreSQL:
//
//	data/      PGDATA
//	conf/      postgresql.conf, pg_hba.conf, pg_ident.conf, upstream.pgpass;
//	           outside PGDATA, so that pg_rewind and pg_basebackup leave them alone
//	run/       the local socket; who can enter this folder is trusted
//	log/       postgres.log
//	diverged/  WAL that was set aside before a rewind, newest five
//
// data.init, data.clone and data.old are steps on the way; the next attempt
// removes them. While rewind.in-progress is there, data/ is half of one thing and
// half of another: it counts as no data and is replaced by a clone.
//
// The agent's settings are its own: ALTER SYSTEM on one of them is undone as soon
// as it is noticed, within about a tenth of a second for the rule of synchronous
// commits, and logged as an error.
//
// # Why a pledge holds
//
// A standby logs in to its upstream with a password that libpq reads from
// upstream.pgpass at every attempt. Recruiting removes that file first and ends
// the walreceiver second. A walreceiver that is not yet visible at that moment
// has not connected either, and will find no password. So once none is visible
// the node streams no more, whether or not PostgreSQL has reloaded its settings.
//
// # Why commits wait from the first moment
//
// Backends skip the wait for standbys while a flag in shared memory says that
// nobody is synchronous; the checkpointer sets that flag, some time after a
// reload. A standby therefore always carries a rule that nobody can meet
// ("ANY 1 (xpd_nobody)"), so that the flag is set long before any promotion: a
// standby that is promoted by hand acknowledges nothing at all.
package agent
