package failover_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

func TestExplain_notes(t *testing.T) {
	t.Parallel()
	s := steadyWith(tagged(map[int]pgcluster.Member{3: {Leaving: true}}))
	st := failover.Explain(s, see(primary(), standby("n2", func(r *pgcluster.Report) {
		r.Order.Error, r.LastError = "no room for a copy", "FATAL: out of memory"
		r.Pending, r.Overrides = []string{"max_connections", "wal_buffers"}, []string{"fsync=off at noon"}
		r.Weak, r.LogicalSlots = []string{"role batch: synchronous_commit=off"}, []string{"cdc"}
		for i := range 12 {
			r.Refused = append(r.Refused, fmt.Sprintf("s%d=x: no such setting", i))
		}
	}), standby("n3", refuses)), policy)
	var refused []string
	for i := range 10 {
		refused = append(refused, fmt.Sprintf("PostgreSQL runs without a setting that it refuses: s%d=x: no such setting", i))
	}
	want := [][]string{
		nil,
		append(append([]string{"follow: no room for a copy", "FATAL: out of memory"}, refused...),
			"more settings are refused: s10=x: no such setting, s11=x: no such setting",
			"waits for a restart (pgctl restart): max_connections, wal_buffers",
			"set by ALTER SYSTEM and taken back: fsync=off at noon",
			"their commits do not wait for a standby: role batch: synchronous_commit=off",
			"logical slots that its loss would end: cdc"),
		{"is being removed, once no commit waits for it", "PostgreSQL has let nobody connect for 2s"},
	}
	for i, n := range st.Nodes {
		if diff := cmp.Diff(want[i], n.Notes); diff != "" {
			t.Errorf("notes of %s (-want +got):\n%s", n.ID, diff)
		}
	}
}
