package xpd

import (
	"strings"
	"testing"

	"github.com/xpd-platform/xpd/pgcluster"
)

func TestOptions_self(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, node, cluster string
		unprotected         bool
		wantErr             string
	}{
		{name: "loopback is served", node: "n1", cluster: "n1=127.0.0.1"},
		{name: "so is IPv6 loopback", node: "n1", cluster: "n1=[::1]"},
		{name: "and localhost", node: "n1", cluster: "n1=localhost"},
		{name: "a wider address is refused", node: "n1", cluster: "n1=192.0.2.1", wantErr: "--unprotected"},
		{name: "any address is refused", node: "n1", cluster: "n1=0.0.0.0", wantErr: "--unprotected"},
		{name: "a name may resolve to anything", node: "n1", cluster: "n1=db1.example", wantErr: "--unprotected"},
		{name: "unless the flag allows it", node: "n1", cluster: "n1=192.0.2.1", unprotected: true},
		{name: "a node must be a member", node: "n9", cluster: "n1=127.0.0.1", wantErr: "not in the cluster"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			members, err := pgcluster.ParseMembers(tt.cluster)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Options{Node: pgcluster.NodeID(tt.node), Members: members, Unprotected: tt.unprotected}.self()
			switch {
			case tt.wantErr == "" && err != nil:
				t.Errorf("self() = %v, want nil", err)
			case tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)):
				t.Errorf("self() = %v, want an error with %q", err, tt.wantErr)
			}
		})
	}
}

func TestOptions_checkSize(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 5; n++ {
		err := Options{Members: make([]pgcluster.Member, n)}.checkSize()
		if wanted := n == 2 || n == 3; (err == nil) != wanted {
			t.Errorf("checkSize() of %d nodes = %v, want that it is accepted: %t", n, err, wanted)
		}
	}
}
