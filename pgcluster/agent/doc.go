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
//	conf/      postgresql.conf, pg_hba.conf, pg_ident.conf, upstream.pgpass, and
//	           ca.crt and node.pem, copies of what [Options].TLS holds;
//	           outside PGDATA, so that pg_rewind and pg_basebackup leave them alone
//	run/       the local socket; who can enter this folder is trusted
//	log/       postgres.log
//	diverged/  WAL that was set aside before a rewind, newest five
//
// data.init, data.clone and data.old are steps on the way; the next attempt
// removes them, data.old when its successor streams. While rewind.in-progress is
// there, data/ is half of one thing and half of another: it counts as no data and is
// replaced by a clone. PGDATA may be elsewhere ([Options].DataDir); then these steps
// are beside it.
//
// # Slots
//
// A primary has one physical slot for each other member, named after the epoch
// ([pgcluster.SlotName]), and a standby streams through the one of the epoch that it
// was ordered to follow in. So nobody streams on the orders of another epoch, even if
// its xpd is down, and no standby counts twice. No standby may log in before the
// slots are in order; a role of others that may replicate can, and is ended within a
// second if it calls itself like a node. A standby has slots xpd_keep_NODE, which only keep the WAL
// that other members lack; a promotion copies them.
//
// # Settings
//
// Of a setting that several chose, the last wins: the agent's default, what an adopted
// server had, [Options].Settings, the cluster's ([Agent.Configure]). PostgreSQL's own
// parser is asked about each before it is written. What it refuses is left out and
// reported. Values that it takes one by one may still keep it from starting: then the
// next start is with those that a server has served with before.
//
// The settings of [pgcluster.OwnedSettings] are the agent's own: ALTER SYSTEM on one of
// them is undone as soon as it is noticed, within about a tenth of a second for the
// rule of synchronous commits and two for others, and so is ALTER ROLE on the agent's
// roles; both are logged as errors and reported. Where the agent has certificates
// ([Options].TLS), ssl and its files are its own, too.
//
// # Adoption
//
// A data directory that others have set up is reported as what it is and left alone,
// its server too ([pgcluster.ProcessForeign]), until the first order to lead or to
// follow. Then that server is stopped, what is the agent's is taken out of
// postgresql.auto.conf, and the rest of its configuration is kept in agent.json. A
// server that others start on the data later is stopped: it knows nothing of epochs.
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
