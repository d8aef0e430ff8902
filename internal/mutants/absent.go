package main

const (
	absent  = "failover/absent.go"
	reclone = "failover/reclone.go"
)

// absences are about nodes that people have the cluster do without.
func absences() []mutant {
	return []mutant{
		{
			name: "promote who is left out", file: absent,
			old: "return m.NoFailover || s.absent(id)", new: "return m.NoFailover",
		},
		{
			name: "let commits wait for who is left out", file: members,
			old: "return ok && waitable(m) && !s.absent(id)", new: "return ok && waitable(m)",
		},
		{
			name: "meddle with a host in maintenance", file: rejoin,
			old: "if d.apart(r) {", new: "if d.apart(r) && r.Role == \"\" {",
		},
		{
			name: "recruit who is left out", file: step,
			old: "(d.s.absent(m.ID) && !d.s.Sync.Durable.Has(m.ID) && m.ID != op.From && !named)", new: "(m.ID == \"\" && named)",
		},
		{
			name: "leave alone whom commits rest on", file: absent, needs: "tables",
			old: "if !absent || d.relied(r.Node) {", new: "if !absent {",
		},
		{
			name: "clone whom commits rest on", file: reclone,
			old: "(!a.Cancelled && d.relied(r.Node))", new: "(!a.Cancelled && a.ID == 0)",
		},
		{
			name: "a cancelled reclone ends at once", file: reclone,
			old: "case !ok || a.Kind != AbsenceReclone || r.Cloned < a.ID:", new: "case !ok || a.Kind != AbsenceReclone || (r.Cloned < a.ID && !a.Cancelled):",
		},
		{
			name: "fail over from a fenced primary", file: step,
			old: "case s.Op == nil && d.fencedPrimary():", new: "case s.Op == nil && d.s.Paused != nil && d.fencedPrimary():",
		},
		{
			name: "start a fenced primary in place", file: choose,
			old: " || r.Role != pgcluster.RolePrimary || d.s.fenced(id):", new: " || r.Role != pgcluster.RolePrimary:",
		},
		{
			name: "maintenance of whom commits need", file: absent,
			old: "if refusal := without.irreplaceable(d.v, d.p, id); refusal != \"\" {", new: "if refusal := without.irreplaceable(d.v, d.p, \"\"); refusal != \"\" {",
		},
	}
}
