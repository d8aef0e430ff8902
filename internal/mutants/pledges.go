package main

// pledges are rules broken where an agent makes a pledge good: from then on its server
// acknowledges nothing to an old primary and is none itself. So a failover rests on them.
func pledges() []mutant {
	const recruit = agent + "/recruit.go"
	return []mutant{
		{
			name: "agent: a recruit that may still log in", file: recruit,
			old: "if err := a.takeKeyAway(); err != nil {", new: "if err := error(nil); err != nil {",
			suites: []suite{processes(agent, "TestAgent_recruitEndsItsReceiver")},
		},
		{
			name: "agent: recruit who may promote itself", file: recruit,
			old: "if err := a.fence(ctx); err != nil {", new: "if err := error(nil); err != nil {",
			suites: []suite{processes(agent, "TestAgent_recruitDistrustsAPromotion")},
		},
		{
			name: "agent: recruit who streams by hand", file: recruit,
			old: "if err := a.stopTampered(ctx); err != nil {", new: "if err := error(nil); err != nil {",
			suites: []suite{processes(agent, "TestAgent_recruitDistrustsAForeignUpstream")},
		},
		{
			name: "agent: a recruit that still streams", file: recruit,
			old: "if err := a.endReceivers(ctx); err != nil {", new: "if err := error(nil); err != nil {",
			suites: []suite{processes(agent, "TestAgent_recruitEndsItsReceiver")},
		},
		{
			name: "agent: a recruit's position before it is at the end", file: recruit,
			old: "if err := a.awaitEndOfWAL(ctx); err != nil {", new: "if err := error(nil); err != nil {",
			suites: []suite{processes(agent, "TestAgent_recruitIsAtTheEndOfItsWAL")},
		},
		{
			name: "agent: initdb on a node that has data", file: agent + "/init.go",
			old: "if st.Led != o.Stamp.Epoch || st.Open != 0 {", new: "if st.Open > 0 && st.Led != o.Stamp.Epoch {",
			suites: []suite{processes(agent, "TestAgent_clonesOnlyWhatItMay")},
		},
	}
}
