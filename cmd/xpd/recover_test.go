package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/failover/raftstore"
	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/pgcluster"
)

// survivor returns the folder of n1, which knows of a cluster of three and does not run.
func survivor(t *testing.T) (dir, members string) {
	t.Helper()
	dir = t.TempDir()
	members = fmt.Sprintf("n1=127.0.0.1:1:%d:3,n2=127.0.0.2:1:2:3,n3=127.0.0.3:1:2:3", pgtest.FreePorts(t, 1)[0])
	all, err := pgcluster.ParseMembers(members)
	if err != nil {
		t.Fatal(err)
	}
	store, err := raftstore.Open(raftstore.Options{
		Node: "n1", Members: all[:1], Dir: filepath.Join(dir, "raft"), ListenAddr: all[0].RaftAddr(),
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- store.Run(ctx) }()
	select {
	case <-store.LeaderCh():
	case <-time.After(20 * time.Second):
		t.Fatal("a group of one has no leader")
	}
	if _, err := store.Save(t.Context(), 0, failover.State{
		Members: all, SystemID: "7", Primary: failover.Primary{Node: "n2", Epoch: 4},
	}); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return dir, members
}

func TestRecover(t *testing.T) {
	t.Parallel()
	dir, members := survivor(t)
	n1, _, _ := strings.Cut(members, ",")
	command := func(in string, args ...string) (string, error) {
		var out strings.Builder
		err := run(t.Context(), append([]string{"recover", "--dir", dir}, args...), streams{strings.NewReader(in), &out, io.Discard})
		return out.String(), err
	}
	for _, refused := range []struct {
		want string
		in   string
		args []string
	}{
		{"not confirmed", "y\n", []string{"--node", "n1", "--members", n1}},
		{"not confirmed", "yes", []string{"--node", "n1", "--members", n1}}, // it broke off
		{"must name n1", "yes\n", []string{"--node", "n1", "--members", "n2=127.0.0.2:1:2:3"}},
		{"n4 is no member", "yes\n", []string{"--node", "n1", "--members", n1 + ",n4=127.0.0.4"}},
		{"speaks Raft at", "yes\n", []string{"--node", "n1", "--members", "n1=127.0.0.1:1:9"}},
	} {
		if _, err := command(refused.in, refused.args...); err == nil || !strings.Contains(err.Error(), refused.want) {
			t.Errorf("recover %v = %v, want an error with %q", refused.args, err, refused.want)
		}
	}
	out, err := command("yes\n", "--node", "n1", "--members", n1)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"nodes n1, n2, n3", "epoch 4, primary n2", "becomes n1 alone", "Done."} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	if _, err := command("", "--node", "n1", "--members", n1); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("without an answer: %v, want it refused", err)
	}
}
