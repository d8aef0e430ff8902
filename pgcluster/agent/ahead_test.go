package agent

import (
	"testing"

	"github.com/xpd-platform/xpd/pgcluster"
)

func TestAhead(t *testing.T) {
	t.Parallel()
	one := pgcluster.Lineage{{Parent: 1, At: 100, Child: 2}}
	two := append(one[:1:1], pgcluster.Switch{Parent: 2, At: 200, Child: 3})
	other := pgcluster.Lineage{{Parent: 1, At: 50, Child: 2}, {Parent: 2, At: 60, Child: 3}}
	tests := []struct {
		name           string
		ordered, local pgcluster.Lineage
		want           bool
	}{
		{"the upstream was promoted since the order", one, two, true},
		{"from the first timeline", nil, one, true},
		{"as ordered", one, one, false},
		{"behind", two, one, false},
		{"another history of the same numbers", one, other, false},
	}
	for _, tt := range tests {
		if got := ahead(tt.ordered, tt.local); got != tt.want {
			t.Errorf("%s: ahead() = %t, want %t", tt.name, got, tt.want)
		}
	}
}
