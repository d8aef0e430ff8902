package raftstore_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A node that starts alone hears from nobody which entries of its log count.
func TestStore_Snapshot_isKnownToWhoStartsAlone(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	g.wantEverywhere(state(1), g.save(state(1)))
	if err := g.nodes["n1"].Snapshot(); err != nil {
		t.Fatal(err)
	}
	for _, m := range g.members {
		g.stop(m.ID)
	}
	g.start("n1")
	got, _ := g.nodes["n1"].State()
	if diff := cmp.Diff(state(1), got); diff != "" {
		t.Errorf("state at the start (-want +got):\n%s", diff)
	}
}
