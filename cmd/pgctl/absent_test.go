package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// without does at once what the rules do by and by: n3 is in no sync set while people have
// the cluster do without it, and in it otherwise.
func without(s *failover.State) {
	s.Sync.Durable.Members = []pgcluster.NodeID{"n2", "n3"}
	if _, absent := s.Absent["n3"]; absent {
		s.Sync.Durable.Members = s.Sync.Durable.Members[:1]
	}
}

func order(kind pgcluster.OrderKind) func(*pgcluster.Report) {
	return func(r *pgcluster.Report) {
		r.Order = pgcluster.OrderStatus{Kind: kind, Stamp: pgcluster.Stamp{Epoch: 4}, Done: true, Step: "done"}
	}
}

// left is a node that people have the cluster do without, for half an hour by now.
func left(id pgcluster.NodeID, kind failover.AbsenceKind) func(*node) {
	return func(n *node) {
		a := failover.Absence{Kind: kind, ID: 7, Since: wall.Add(-30 * time.Minute), Reason: "kernel update (by ann)"}
		if kind == failover.AbsenceMaintenance {
			a.Until = wall.Add(time.Hour)
		}
		n.state.Absent = map[pgcluster.NodeID]failover.Absence{id: a}
		without(&n.state)
	}
}

func sized(n *node) {
	n.change("n1", func(r *pgcluster.Report) { r.DataBytes = 40 << 30 })
	n.change("n3", func(r *pgcluster.Report) {
		r.DataBytes = 39 << 30
		r.Disks = []pgcluster.Disk{{Use: "data", Path: "/var/lib/xpd", Free: 60 << 30, Total: 100 << 30}}
		r.SetAside = []pgcluster.SetAside{{At: wall.Add(-time.Hour), Bytes: 16 << 20, Path: "/var/lib/xpd/pg/diverged/3-16_0"}}
	})
}

func TestAbsences(t *testing.T) {
	t.Parallel()
	maintained := func(n *node) {
		left("n3", failover.AbsenceMaintenance)(n)
		n.change("n3", func(r *pgcluster.Report) { r.Process, r.Receiver.Streaming = pgcluster.ProcessStopped, false })
		n.change("n1", func(r *pgcluster.Report) { r.Senders = r.Senders[:1] })
	}
	fenced := func(n *node) {
		left("n1", failover.AbsenceFence)(n)
		n.change("n1", func(r *pgcluster.Report) { r.Process, r.Senders = pgcluster.ProcessStopped, nil })
		for _, id := range []pgcluster.NodeID{"n2", "n3"} {
			n.change(id, func(r *pgcluster.Report) { r.Receiver.Streaming = false })
		}
	}
	resting := func(n *node) { n.read = without; n.change("n3", order(pgcluster.OrderRest)) }
	for name, tt := range map[string]struct {
		args   []string
		in     string
		change func(*node)
		code   int
	}{
		"maintenance":          {args: []string{"maintenance", "n3", "--for", "2h", "--reason", "kernel update"}, in: "y\n", change: resting},
		"maintenance_no_wait":  {args: []string{"maintenance", "n3", "--for", "2h", "-y", "--no-wait"}},
		"maintenance_declined": {args: []string{"maintenance", "n3", "--for", "2h"}, in: "n\n", code: exitFailed},
		"maintenance_primary":  {args: []string{"maintenance", "n1", "--for", "2h", "-y"}, code: exitFailed},
		"maintenance_how_long": {args: []string{"maintenance", "n3"}, code: exitFailed},
		"maintenance_needed": {
			args: []string{"maintenance", "n3", "--for", "2h", "-y"}, code: exitFailed,
			change: func(n *node) { n.change("n1", func(r *pgcluster.Report) { r.Senders = r.Senders[1:] }) },
		},
		"maintenance_stays": {args: []string{"maintenance", "n3", "--for", "2h", "-y", "--timeout", "3s"}, code: exitFailed},
		"maintenance_end": {args: []string{"maintenance", "n3", "--end"}, change: func(n *node) {
			left("n3", failover.AbsenceMaintenance)(n)
			n.read = without
		}},
		"maintenance_end_what":   {args: []string{"maintenance", "n3", "--end"}, code: exitFailed},
		"maintenance_status":     {args: []string{"status"}, change: maintained, code: exitDegraded},
		"maintenance_why":        {args: []string{"why"}, change: maintained, code: exitDegraded},
		"maintenance_switchover": {args: []string{"switchover", "--to", "n3", "-y"}, change: maintained, code: exitFailed},
		"maintenance_blocked": {args: []string{"why"}, code: exitNoWrites, change: func(n *node) {
			maintained(n)
			n.silence("n2", time.Minute)
			n.change("n1", func(r *pgcluster.Report) { r.Senders = nil })
			n.self, n.leader = "n1", "n1"
		}},
		"fence": {args: []string{"fence", "n3", "--reason", "bad blocks"}, in: "y\n", change: func(n *node) {
			n.read = without
			n.change("n3", func(r *pgcluster.Report) { r.Process, r.Receiver.Streaming = pgcluster.ProcessStopped, false })
		}},
		"fence_primary": {args: []string{"fence", "n1", "--reason", "bad blocks"}, in: "n1\n", change: func(n *node) {
			n.change("n1", func(r *pgcluster.Report) { r.Process = pgcluster.ProcessStopped })
		}},
		"fence_primary_declined":  {args: []string{"fence", "n1"}, in: "y\n", code: exitFailed},
		"fence_status":            {args: []string{"status"}, change: fenced, code: exitNoWrites},
		"fence_why":               {args: []string{"why"}, change: fenced, code: exitNoWrites},
		"unfence":                 {args: []string{"unfence", "n3", "-y"}, change: func(n *node) { left("n3", failover.AbsenceFence)(n); n.read = without }},
		"unfence_what":            {args: []string{"unfence", "n3"}, code: exitFailed},
		"reclone_dry_run":         {args: []string{"reclone", "n3", "--dry-run"}, change: sized},
		"reclone_dry_run_discard": {args: []string{"reclone", "n3", "--dry-run", "--discard"}, change: sized},
		"reclone_dry_run_refused": {args: []string{"reclone", "n1", "--dry-run"}, code: exitFailed},
		"reclone_dry_run_alone":   {args: []string{"reclone", "n3", "--dry-run"}, change: func(n *node) { n.leader = "" }, code: exitUnknown},
		"reclone": {args: []string{"reclone", "n3"}, in: "y\n", change: func(n *node) {
			sized(n)
			n.read = func(s *failover.State) { // the copy is made as soon as it was asked for
				if s.Absent["n3"].Kind == failover.AbsenceReclone {
					s.Absent = nil
					s.History = append(s.History, failover.Event{At: wall.Add(time.Minute), Epoch: 4, Kind: "reclone ended", Node: "n3"})
				}
			}
		}},
		"reclone_no_room": {args: []string{"reclone", "n3", "-y"}, code: exitFailed, change: func(n *node) {
			sized(n)
			n.change("n3", func(r *pgcluster.Report) { r.Disks[0].Free = 5 << 30 })
		}},
		"reclone_declined": {args: []string{"reclone", "n3"}, in: "\n", code: exitFailed, change: sized},
		"reclone_no_wait":  {args: []string{"reclone", "n3", "-y", "--no-wait"}},
		"reclone_cancel": {args: []string{"reclone", "n3", "--cancel"}, change: func(n *node) {
			left("n3", failover.AbsenceReclone)(n)
			n.read = func(s *failover.State) { // the node says at once that it makes no copy
				if s.Absent["n3"].Cancelled {
					s.Absent = nil
				}
				without(s)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := known(t)
			if tt.change != nil {
				tt.change(n)
			}
			got := pgctl(t.Context(), serve(t, n), strings.NewReader(tt.in), tt.args...)
			if got.code != tt.code {
				t.Errorf("exit code = %d, want %d", got.code, tt.code)
			}
			golden(t, "absent_"+name+".txt", got.transcript(tt.args...))
		})
	}
}

func TestAudit(t *testing.T) {
	t.Parallel()
	n := healthy(t)
	url := serve(t, n)
	if got := pgctl(t.Context(), url, nil, "audit"); got.code != exitOK || got.out != "nobody has asked for anything yet\n" {
		t.Errorf("%+v", got)
	}
	n.state.Audit = []failover.AuditEntry{
		{At: wall, Asker: failover.Asker{Operator: "ann", From: "10.0.0.7", Name: "dba_ann"}, Epoch: 4, Action: "switchover to n2", Reason: "kernel update on n1", Op: 12},
		{
			At: wall.Add(time.Minute), Asker: failover.Asker{Operator: "bob"}, Epoch: 5, Action: `settings k=1 work_mem="64MB" log_statement="ddl"`,
			Reason: "the report that is made every night sorts far more than it did when we had fewer customers",
		},
		{At: wall.Add(time.Hour), Epoch: 5, Action: "fence n1", Refused: "n1 is fenced already: pgctl unfence n1 ends that"},
	}
	golden(t, "audit.txt", pgctl(t.Context(), url, nil, "audit").transcript("audit"))
	var entries []failover.AuditEntry
	got := pgctl(t.Context(), url, nil, "audit", "-n", "2", "--json")
	if err := json.Unmarshal([]byte(got.out), &entries); err != nil || len(entries) != 2 || entries[1].Refused == "" {
		t.Errorf("%v: %s", err, got.out)
	}
}
