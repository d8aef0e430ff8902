package main

const (
	agent = "pgcluster/agent"
	pool  = "pgcluster/pool"
)

// rest are rules broken where they meet Raft and the pools.
func rest() []mutant {
	return []mutant{
		{
			name: "save over a newer state", file: "failover/raftstore/fsm.go",
			old: "if c.Base != f.cur.Index {", new: "if c.Base > f.cur.Index {",
			suites: []suite{processes("failover/raftstore", "TestStore_oneOfRacingSavesWins")},
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

// orders are rules broken where an agent carries out orders on PostgreSQL.
func orders() []mutant {
	return []mutant{
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
			name: "agent: leave the slots of other epochs", file: agent + "/slots.go",
			old: "if stays[s.name] {", new: "if stays[s.name] || len(have) > 0 {",
			suites: []suite{processes(agent, "TestAgent_slotsOfAnEpoch")},
		},
		{
			name: "agent: let standbys in before the slots are in order", file: agent + "/conf.go",
			old: "if s.Serving {", new: "if s.Serving || s.Stream == 0 {",
			suites: []suite{processes(agent, "TestHBAConf")},
		},
		{
			name: "agent: a rule that an old session shows", file: agent + "/lead.go",
			old: "if err := a.confirmSync(ctx, names); err != nil {", new: "if err := error(nil); err != nil {",
			suites: []suite{processes(agent, "TestAgent_confirmsARuleByANewSession")},
		},
		{
			name: "agent: a standby forgets what others lack", file: agent + "/slots.go",
			old: "if source != \"\" {", new: "if source == name {",
			suites: []suite{processes(agent, "TestAgent_F41_aStandbyAwayThroughAFailover")},
		},
		{
			name: "agent: accept another cluster's order", file: agent + "/agent.go",
			old: "own != \"\" && own != o.SystemID {", new: "own == \"\" && own != o.SystemID {",
			suites: []suite{processes(agent, "TestAgent_clonesOnlyWhatItMay")},
		},
		{
			name: "agent: leave others' server on its data", file: agent + "/foreign.go",
			old: "	if !a.foreign() {\n		a.log.ErrorContext(", new: "	if a.p.data == \"\" {\n		a.log.ErrorContext(",
			suites: []suite{processes(agent, "TestAgent_stopsWhoIsStartedOnItsData")},
		},
		{
			name: "agent: adopted rules past the lock", file: agent + "/adopted.go",
			old: "len(rules) == 0 || s.Locked {", new: "len(rules) == 0 {",
			suites: []suite{processes(agent, "TestAdopted_hba")},
		},
	}
}

// settings are rules broken where an agent says what PostgreSQL runs with.
func settings() []mutant {
	return []mutant{
		{
			name: "agent: write what PostgreSQL refuses", file: agent + "/vet.go",
			old: "setting{name, value}]; !bad {", new: "setting{name, value}]; !bad || bad {",
			suites: []suite{processes(agent, "TestAgent_appliesClusterSettings")},
		},
		{
			name: "agent: go back to an older configuration", file: agent + "/config.go",
			old: "c.Version < known.Version ||", new: "c.Version+1 < known.Version ||",
			suites: []suite{processes(agent, "TestAgent_appliesClusterSettings")},
		},
		{
			name: "agent: a standby with less than its primary", file: agent + "/floor.go",
			old: "valid && n < floor {", new: "valid && n < 0 {",
			suites: []suite{processes(agent, "TestAgent_givesAStandbyWhatItsPrimaryHas")},
		},
		{
			name: "agent: what gets lower gets higher", file: agent + "/pending.go",
			old: "case next < now:", new: "case next < 0:",
			suites: []suite{processes(agent, "TestAgent_F42_whichWaySettingsGo")},
		},
		{
			name: "agent: nobody but the agent sets anything", file: agent + "/pending.go",
			old: "ORDER BY f.seqno DESC", new: "ORDER BY f.seqno",
			suites: []suite{processes(agent, "TestAgent_F42_whichWaySettingsGo")},
		},
		{
			name: "agent: ALTER SYSTEM below what a standby needs", file: agent + "/floor.go",
			old: "below := bounded && valid && n < floor", new: "below := bounded && valid && n < floor-1<<30",
			suites: []suite{processes(agent, "TestAgent_givesAStandbyWhatItsPrimaryHas")},
		},
		{
			name: "agent: a primary with a standby's needs", file: agent + "/lead.go",
			old: "	a.forgetFloors()\n", new: "",
			suites: []suite{processes(agent, "TestAgent_givesAStandbyWhatItsPrimaryHas")},
		},
	}
}
