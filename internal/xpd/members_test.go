package xpd

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Neither the answer of one node nor a new state waits for nodes that are lost.
func TestDaemon_wasRemoved(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	lost := func(http.ResponseWriter, *http.Request) { <-hang }
	knows := func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(pgcluster.Identity{
			Node: "n5", Cluster: "7", Applied: 9, Members: []pgcluster.NodeID{"n2", "n3", "n4", "n5"},
		})
	}
	s := failover.State{SystemID: "7", Members: []pgcluster.Member{{ID: "n1"}}}
	for id, h := range map[pgcluster.NodeID]http.HandlerFunc{"n2": lost, "n3": lost, "n4": lost} {
		s.Members = append(s.Members, serve(t, id, h))
	}
	t.Cleanup(func() { close(hang) }) // before the servers are closed, which wait
	d := &daemon{Options: Options{Node: "n1"}, nodes: client.NewNodeClient(nil, "token", nil)}

	changed := make(chan struct{})
	close(changed)
	// How long it takes at best: a machine that does much else may take longer at times.
	quickest := func(what string, changed <-chan struct{}, bound time.Duration) {
		t.Helper()
		least := bound
		for range 20 {
			began := time.Now()
			if d.wasRemoved(t.Context(), s, 9, changed) {
				t.Error("removed, though nobody says so")
			}
			if least = min(least, time.Since(began)); least < bound {
				return
			}
		}
		t.Errorf("%s: not once in less than %v", what, bound)
	}
	quickest("a new state waits for nodes that are lost", changed, removalAsk)
	quickest("three lost nodes are asked one after the other", nil, 2*removalAsk)
	s.Members = append(s.Members, serve(t, "n5", knows))
	for range 20 {
		if d.wasRemoved(t.Context(), s, 9, nil) {
			return
		}
	}
	t.Error("not removed, though a node says so")
}

// serve returns a member whose xpd answers by h until the test ends.
func serve(t *testing.T, id pgcluster.NodeID, h http.HandlerFunc) pgcluster.Member {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	host, text, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return pgcluster.Member{ID: id, Host: host, HTTPPort: port}
}
