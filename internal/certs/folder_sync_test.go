package certs

import (
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestMake_renews what has less than a third of its life left, with the names that it
// has.
func TestMake_renews(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := Order{
			Dir: filepath.Join(t.TempDir(), "tls"), Cluster: "test", CALife: 400 * day, NodeLife: 30 * day,
			Nodes: []Request{{Node: "n1", Hosts: []string{"n1.test", "FD00::0:1", "n1.test"}}},
		}
		for _, step := range []struct {
			after time.Duration
			want  string
		}{{0, DidMake}, {0, DidKeep}, {19 * day, DidKeep}, {2 * day, DidRenew}, {19 * day, DidKeep}, {12 * day, DidRenew}} {
			time.Sleep(step.after) // the bubble's clock: returns at once
			r, err := Make(o)
			if err != nil {
				t.Fatal(err)
			}
			n := r.Nodes[0]
			if n.Did != step.want {
				t.Errorf("%v later: %s (%s), want %s", step.after, n.Did, n.Why, step.want)
			}
			if want := []string{"n1.test", "fd00::1"}; !slices.Equal(n.Hosts, want) {
				t.Errorf("%v later: names %q, want %q", step.after, n.Hosts, want)
			}
			o.Nodes = nil // it knows them
		}
	})
}
