package failover

import (
	"fmt"
	"slices"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// replication looks at how far behind a standby is.
func (x *examination) replication(n NodeStatus) {
	if n.Gap > int64(x.p.MaxGap) { //nolint:gosec // a few megabytes
		x.add(CodeBehind, SeverityWarning, n.ID, fmt.Sprintf("is %d MB of WAL behind: too far for commits to wait for it, and its slot keeps them on the primary", n.Gap>>20),
			"see whether the gap in pgctl status -w gets smaller; if not, look at the network and at the disk of the node")
	}
	if n.Lag > maxReplay {
		x.add(CodeReplay, SeverityWarning, n.ID, "replays what it was sent "+tenths(n.Lag).String()+" ago: reads there are old, and a promotion takes longer",
			"end long queries on it, or look at its disk and processors")
	}
}

// disks looks at what is free, once for each filesystem.
func (x *examination) disks(r pgcluster.Report) {
	var seen [][2]uint64
	for _, d := range r.Disks {
		size := [2]uint64{d.Free, d.Total}
		if d.Total == 0 || slices.Contains(seen, size) {
			continue
		}
		seen = append(seen, size)
		percent := float64(d.Free) / float64(d.Total) * 100
		sev := SeverityCritical
		switch {
		case percent >= diskWarning:
			continue
		case percent >= diskCritical:
			sev = SeverityWarning
		}
		do := "make the filesystem larger, or delete what is not PostgreSQL's: nothing in pg_wal"
		if len(r.SetAside) > 0 {
			do += "; WAL set aside may be deleted once nobody wants it"
		}
		x.add(CodeDisk, sev, r.Node, fmt.Sprintf("%.1f %% of %s (%s) is free: %d of %d MB", percent, d.Path, d.Use, d.Free>>20, d.Total>>20), do)
	}
}

// postgres looks at what PostgreSQL says of itself, and how it is configured.
func (x *examination) postgres(r pgcluster.Report) {
	if r.ConnectStalled >= x.p.Refused {
		x.add(CodeNoConnection, SeverityCritical, r.Node, "PostgreSQL has let nobody connect for "+tenths(r.ConnectStalled).String(),
			"see PostgreSQL's log there; if its postmaster was stopped by a signal, continue it (kill -CONT)")
	}
	if r.WriteStalled >= x.p.Hung {
		x.add(CodeNoWAL, SeverityCritical, r.Node, "its disk has not taken any WAL for "+tenths(r.WriteStalled).String(), "look at the disk, and at the kernel's log, of that host")
	}
	for _, l := range []struct {
		code  Code
		items []string
		lead  string
		do    string
	}{
		{CodePending, r.Pending, "waits for a restart", "pgctl restart " + string(r.Node) + ", or pgctl restart --all"},
		{CodeRefused, r.Refused, "PostgreSQL refuses settings and runs without them", "correct them: pgctl settings set NAME=VALUE, or NAME= to take one back; --pg-setting of that xpd if it is not in pgctl settings"},
		{CodeOverridden, r.Overrides, "ALTER SYSTEM of settings that are xpd's was taken back", "find out who did it; pgctl settings set is the way for what may be changed"},
		{CodeWeak, r.Weak, "commits do not wait for a standby, and may be lost", "ALTER ROLE or ALTER DATABASE … RESET synchronous_commit, unless it is meant so"},
		{CodeLogicalSlot, r.LogicalSlots, "logical slots that the loss of this node would end", "be ready to make them anew after a failover, or drop them if nobody reads them"},
	} {
		if len(l.items) > 0 {
			x.add(l.code, SeverityWarning, r.Node, l.lead+": "+few(l.items), l.do)
		}
	}
}

// kept tells of WAL that was set aside.
func (x *examination) kept(r pgcluster.Report) {
	if len(r.SetAside) == 0 {
		return
	}
	var size int64
	for _, a := range r.SetAside {
		size += a.Bytes
	}
	x.add(CodeSetAside, SeverityNotice, r.Node,
		fmt.Sprintf("keeps %d MB of WAL that was never acknowledged, the newest of %s", (size+1<<20-1)>>20, rfc3339(r.SetAside[len(r.SetAside)-1].At)),
		"look into it with pg_waldump if somebody misses something; then delete "+r.SetAside[len(r.SetAside)-1].Path)
}

// clocks compares the clocks of the nodes that are heard.
func (x *examination) clocks() {
	ahead := map[pgcluster.NodeID]time.Duration{}
	var all []time.Duration
	for _, m := range x.s.Members {
		r, ok := x.v.report(m.ID, x.p)
		if !ok || r.Wall.IsZero() {
			continue
		}
		read := x.v.Wall.Add(x.v.Reports[m.ID].At - x.v.Now)
		ahead[m.ID] = r.Wall.Round(0).Sub(read)
		all = append(all, ahead[m.ID])
	}
	if len(all) < 2 {
		return
	}
	slices.Sort(all)
	if all[len(all)-1]-all[0] <= maxClock {
		return
	}
	usual := all[(len(all)-1)/2]
	for _, m := range x.s.Members {
		by, ok := ahead[m.ID]
		if off := by - usual; ok && off.Abs() > maxClock {
			word := "ahead of"
			if off < 0 {
				word = "behind"
			}
			x.add(CodeClock, SeverityWarning, m.ID, fmt.Sprintf("its clock is %s %s those of other nodes", tenths(off.Abs()), word),
				"start time synchronisation there (chrony, systemd-timesyncd); safety does not rest on it, times in the history do")
		}
	}
}
