package main

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/xpd-platform/xpd/pgcluster"
)

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// The node that was asked dies: the watch goes on with those that it has heard of.
func TestWatch_survivesTheNodeThatItAsks(t *testing.T) {
	t.Parallel()
	servers := wards(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var seenBy []pgcluster.NodeID
	out := writer(func(p []byte) (int, error) {
		var l struct {
			SeenBy pgcluster.NodeID `json:"seen_by"`
		}
		if err := json.Unmarshal(p, &l); err != nil {
			t.Errorf("%v in %s", err, p)
		}
		seenBy = append(seenBy, l.SeenBy)
		switch {
		case len(seenBy) == 1:
			servers["n2"].Close()
		case l.SeenBy != "n2" || len(seenBy) == 20:
			cancel()
		}
		return len(p), nil
	})
	err := run(ctx, []string{"--server", servers["n2"].URL, "status", "-w", "--json", "--every", "100ms"}, nil, out, io.Discard)
	if last := seenBy[len(seenBy)-1]; exitCode(err, io.Discard) != exitOK || seenBy[0] != "n2" || (last != "n1" && last != "n3") {
		t.Errorf("run() = %v, seen by %q, want first n2 and then another one", err, seenBy)
	}
}

func TestWatch_everyTooShort(t *testing.T) {
	t.Parallel()
	got := pgctl(t.Context(), "127.0.0.1:1", nil, "status", "-w", "--every", "5ms")
	if got.code != exitFailed || !strings.Contains(got.err, "--every 5ms: at least 100ms") {
		t.Errorf("exit code %d, stderr %q", got.code, got.err)
	}
}

// The exit code is that of what was seen last, or that nobody answered.
func TestWatch_exitCode(t *testing.T) {
	t.Parallel()
	lost := healthy(t)
	situations["standby_lost"].change(lost)
	for url, want := range map[string]int{serve(t, lost): exitDegraded, "127.0.0.1:1": exitUnknown} {
		got := pgctl(t.Context(), url, nil, "status", "-w", "--timeout", "3s")
		if got.code != want {
			t.Errorf("%s: exit code %d, want %d; stdout %s, stderr %s", url, got.code, want, got.out, got.err)
		}
	}
}
