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
		tls, tokens         string
		unprotected         bool
		wantErr             string
	}{
		{name: "loopback is served", node: "n1", cluster: "n1=127.0.0.1"},
		{name: "so is IPv6 loopback", node: "n1", cluster: "n1=[::1]"},
		{name: "and localhost", node: "n1", cluster: "n1=localhost"},
		{name: "a wider address is refused", node: "n1", cluster: "n1=192.0.2.1", wantErr: "--unprotected"},
		{name: "unless both are there: certificates and tokens", node: "n1", cluster: "n1=192.0.2.1", tls: "tls", tokens: "tokens"},
		{name: "certificates alone let strangers ask", node: "n1", cluster: "n1=192.0.2.1", tls: "tls", wantErr: "give it --tokens"},
		{name: "tokens alone can be read on the way", node: "n1", cluster: "n1=192.0.2.1", tokens: "tokens", wantErr: "give it --tls-dir"},
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
			_, err = Options{Node: pgcluster.NodeID(tt.node), Members: members, TLSDir: tt.tls, TokenFile: tt.tokens, Unprotected: tt.unprotected}.self()
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
	tests := []struct {
		data, witnesses int
		join, accepted  bool
	}{
		{data: 1},
		{data: 2, accepted: true},
		{data: 7, accepted: true},
		{data: 8},
		{data: 1, witnesses: 2},
		{data: 2, witnesses: 1, accepted: true},
		{data: 7, witnesses: 2, accepted: true},
		{data: 7, witnesses: 3},
		{data: 1, join: true, accepted: true},
		{witnesses: 1, join: true, accepted: true},
	}
	for _, tt := range tests {
		members := make([]pgcluster.Member, tt.data+tt.witnesses)
		for i := range tt.witnesses {
			members[i].Witness = true
		}
		err := Options{Members: members, Join: tt.join}.checkSize()
		if (err == nil) != tt.accepted {
			t.Errorf("checkSize() with %+v = %v", tt, err)
		}
	}
}

func TestOutvoted(t *testing.T) {
	t.Parallel()
	without := pgcluster.Identity{Node: "n1", Cluster: "7", Applied: 20, Members: []pgcluster.NodeID{"n1", "n2"}}
	with := without
	with.Members = []pgcluster.NodeID{"n1", "n2", "n3"}
	empty := without
	empty.Members, empty.Cluster = nil, ""
	tests := map[string]struct {
		index uint64
		who   pgcluster.Identity
		want  bool
	}{
		"removed":                              {20, without, true},
		"removed by an entry that is not here": {11, without, true},
		"a member that is behind":              {21, without, false}, // of a time before this node was added
		"still a member":                       {20, with, false},
		"a node of no cluster":                 {20, empty, false},
	}
	for name, tt := range tests {
		if got := outvoted("n3", "7", tt.index, tt.who); got != tt.want {
			t.Errorf("%s: outvoted() = %v, want %v", name, got, tt.want)
		}
	}
	if outvoted("n3", "8", 20, without) {
		t.Error("a node of another cluster outvotes")
	}
}

func TestWitness_refusesOrders(t *testing.T) {
	t.Parallel()
	w := newWitness("n3")
	if err := w.Submit(t.Context(), pgcluster.Order{Kind: pgcluster.OrderLead}); err == nil {
		t.Error("a witness accepts orders")
	}
	done := make(chan pgcluster.Report)
	go func() { done <- w.Changed(t.Context(), 1) }()
	w.Configure(pgcluster.Config{Version: 4})
	if r := <-done; r.Config != 4 || r.Role != pgcluster.RoleNone {
		t.Errorf("report = %+v, want that version 4 is known", r)
	}
}
