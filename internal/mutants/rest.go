package main

// rest are rules broken where they meet Raft and PostgreSQL.
func rest() []mutant {
	const (
		agent = "pgcluster/agent"
		pool  = "pgcluster/pool"
	)
	return []mutant{
		{
			name: "save over a newer state", file: "failover/raftstore/fsm.go",
			old: "if c.Base != f.cur.Index {", new: "if c.Base > f.cur.Index {",
			suites: []suite{processes("failover/raftstore", "TestStore_oneOfRacingSavesWins")},
		},
		{
			name: "agent: submit below the pledge", file: agent + "/agent.go",
			old: "if o.Stamp.Before(s.Pledged) {", new: "if o.Stamp.Before(pgcluster.Stamp{}) {",
			suites: []suite{processes(agent, "TestAgent_recruitCutsStreaming")},
		},
		{
			name: "agent: a pledge that is not kept", file: agent + "/agent.go",
			old: "\t\ts.Pledged = o.Stamp\n", new: "",
			suites: []suite{processes(agent, "TestAgent_recruitCutsStreaming")},
		},
		{
			name: "agent: lead twice in an epoch", file: agent + "/lead.go",
			old: "if a.state.get().Led == o.Stamp.Epoch {", new: "if a.state.get().Led > o.Stamp.Epoch {",
			suites: []suite{processes(agent, "TestAgent_reportsAKilledPrimaryAndStaysDown")},
		},
		{
			name: "agent: restart in place unlocked", file: agent + "/lead.go",
			old: "settings{Sync: o.Sync.Names(), Locked: true}", new: "settings{Sync: o.Sync.Names()}",
			suites: []suite{processes(agent, "TestAgent_reportsAKilledPrimaryAndStaysDown")},
		},
		{
			name: "agent: accept another cluster's order", file: agent + "/agent.go",
			old: "own != \"\" && own != o.SystemID {", new: "own == \"\" && own != o.SystemID {",
			suites: []suite{processes(agent, "TestAgent_clonesOnlyWhatItMay")},
		},
		{
			name: "pool: a cancelled wait is ok", file: pool + "/do.go",
			old: "case w.session.unconfirmed.Load():", new: "case false:",
			suites: []suite{processes(pool, "TestDo_doesNotTrustACancelledWait")},
		},
		{
			name: "pool: an answer of a past epoch is ok", file: pool + "/do.go",
			old: "if !w.pools.state.Load().same(w.state) {", new: "if w.pools.state.Load() == nil {",
			suites: []suite{processes(pool, "TestDo_runsAgainWhenTheEpochPassedMeanwhile")},
		},
		{
			name: "pool: any primary will do", file: pool + "/session.go",
			old: "return s.timeline == t.Timeline", new: "return true",
			suites: []suite{processes(pool, "TestDo_leavesAnotherEpochsPrimaryAlone")},
		},
		{
			name: "pool: any promotion will do", file: pool + "/session.go",
			old: "if s.timeline == 0 {", new: "if s.timeline == 0 { return true, nil }\n\tif s.timeline == 0 {",
			suites: []suite{processes(pool, "TestDo_asksAPromotedServerForItsTimeline")},
		},
		{
			name: "pool: synchronous_commit as it comes", file: pool + "/session.go",
			old: "\"synchronous_commit\":            \"on\",", new: "\"synchronous_commit\":            \"local\",",
			suites: []suite{processes(pool, "TestDo_resendsACommitThatHangs")},
		},
	}
}
