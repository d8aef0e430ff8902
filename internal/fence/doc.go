// Package fence closes PostgreSQL when the xpd that looks after it can not do so any
// more: a helper process, started by xpd in a session of its own, outlives a kill -9
// of xpd and notices one that hangs.
//
// xpd tells its helper several times a second, over a pipe, until when its lease lasts
// and whether PostgreSQL must not outlive it (Beat). The helper closes PostgreSQL once
// that time is up and xpd has been silent for a while (Due). It decides nothing else:
// an xpd that speaks is in charge, whatever its lease. docs/decisions/fence.md says
// when PostgreSQL must be closed at all.
//
// A file with the helper's process id, which it holds locked, keeps a second one away.
// A new xpd replaces the helper that it finds, which closes nothing. The helper ends
// by itself when neither its xpd nor PostgreSQL is there.
package fence
