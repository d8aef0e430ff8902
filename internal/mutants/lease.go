package main

import "time"

const (
	lease = "failover/lease"
	fence = "internal/fence"
)

// leases are about how long a node may trust what it knows of the primary. They run in
// virtual time.
func leases() []mutant {
	timed := []suite{{name: "leases", pkg: lease, run: "^TestKeeper_|^TestLease_", limit: time.Minute}}
	return []mutant{
		{
			name: "lease: of a leader that lost its quorum", file: lease + "/keeper.go", suites: timed,
			old: "err := k.o.Verify(ctx)\n\tif err == nil {", new: "err := k.o.Verify(ctx)\n\tif err == nil || k.o.Leader() == k.o.Self {",
		},
		{
			name: "lease: one confirmation too few", file: lease + "/renew.go", suites: timed,
			old: "confirmed++; confirmed == rule.K {", new: "confirmed++; confirmed == max(1, rule.K-1) {",
		},
		{
			name: "lease: by a rule that somebody else made", file: lease + "/renew.go", suites: timed,
			old: "if !ok || rule.K == 0 {", new: "if !ok {\n\t\trule = s.Sync.Durable\n\t}\n\tif rule.K == 0 {",
		},
		{
			name: "lease: counted from the leader's answer", file: lease + "/renew.go", suites: timed,
			old: "asked := k.o.Now()\n\tg, err := k.ask(ctx, leader)", new: "g, err := k.ask(ctx, leader)\n\tasked := k.o.Now()",
		},
		{
			name: "lease: counted from anybody's answer", file: lease + "/renew.go", suites: timed,
			old: "granted = k.take(asked, a.grant) || granted", new: "_ = asked\n\t\tgranted = k.take(k.o.Now(), a.grant) || granted",
		},
		{
			name: "lease: confirmed by who has pledged on", file: lease + "/keeper.go", suites: timed,
			old: "p := k.o.Report().Pledged.Epoch; p > epoch {", new: "p := k.o.Report().Pledged.Epoch; p > epoch+1 {",
		},
		{
			name: "lease: of a primary that has pledged on", file: lease + "/keeper.go", suites: timed,
			old: "r.Pledged.Epoch == r.Led", new: "r.Pledged.Epoch >= r.Led",
		},
		{
			name: "lease: passed on in full", file: lease + "/keeper.go", suites: timed,
			old: "For: left, Alone", new: "For: Length, Alone",
		},
		{
			name: "lease: writes that nothing protects", file: lease + "/keeper.go", suites: timed,
			old: "!alone(s) && !k.lease.Alone ||", new: "!alone(s) ||",
		},
		{
			name: "lease: of an epoch that has passed", file: lease + "/lease.go", suites: timed,
			old: "case g.Epoch < l.Epoch:", new: "case g.Epoch+1 < l.Epoch:",
		},
		{
			name: "lease: as long as is granted", file: lease + "/lease.go", suites: timed,
			old: "asked + min(max(g.For, 0), Length)", new: "asked + max(g.For, 0)",
		},
	}
}

// fences are about when a helper closes PostgreSQL.
func fences() []mutant {
	rules := []suite{{name: "fence's rules", pkg: fence, run: "^TestBeat_Due$|^TestHelper_", limit: time.Minute}}
	return []mutant{
		{
			name: "fence: before the lease ends", file: fence + "/due.go", suites: rules,
			old: "b.Fenced && now >= b.Until &&", new: "b.Fenced &&",
		},
		{
			name: "fence: what the quorum protects", file: fence + "/due.go", suites: rules,
			old: "return b.Fenced && now", new: "return now",
		},
		{
			name: "fence: though xpd speaks", file: fence + "/due.go", suites: rules,
			old: "now-max(heard, awake) >= hang", new: "now-max(heard, awake) >= 0",
		},
		{
			name: "fence: by a beat from before a suspension", file: fence + "/due.go", suites: rules,
			old: "now-max(heard, awake)", new: "now-heard",
		},
		{
			name: "fence: without noticing a suspension", file: fence + "/helper.go", suites: rules,
			old: "if now-h.last > slept {", new: "if now < h.last {",
		},
		{
			name: "fence: a stuck server keeps the dog fed", file: fence + "/helper.go", suites: rules,
			old: "h.watchdog.pet(h.o.Now())\n\t}", new: "}\n\th.watchdog.pet(h.o.Now())",
		},
		{
			name: "fence: a reset though the stuck server died", file: fence + "/helper.go", suites: rules,
			old: "h.closed, h.stuck = true, false // it", new: "// it",
		},
		{
			name: "fence: who is dead needs no lease", file: fence + "/helper.go",
			old: "&& h.beat.Due(now, h.heard, h.awake)", new: "&& (h.gone || h.beat.Due(now, h.heard, h.awake))",
			suites: []suite{processes(fence, "TestRun_closesPostgresAfterTheLease")},
		},
		{
			name: "fence: by who is replaced", file: fence + "/helper.go",
			old: "asked to end: closing nothing\")", new: "asked to end: closing nothing\")\n\t\t\th.shut(ctx)",
			suites: []suite{processes(fence, "TestSupervisor_replacesTheHelper")},
		},
	}
}
