package raftstore

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRaftLogger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := raftLogger(slog.New(slog.NewTextHandler(&out, nil)))
		expect := func(what string, lines ...string) {
			t.Helper()
			got := strings.Split(strings.TrimSpace(out.String()), "\n")
			out.Reset()
			if len(got) != len(lines) {
				t.Fatalf("%s: got %q, want %d lines", what, got, len(lines))
			}
			for i, want := range lines {
				if !strings.Contains(got[i], want) {
					t.Errorf("%s: line %q lacks %q", what, got[i], want)
				}
			}
		}

		l.Info("entering leader state")
		l.Error("failed to heartbeat to", "peer", "n1", "error", "refused")
		l.Error("failed to heartbeat to", "peer", "n1", "error", "refused")
		l.Error("failed to heartbeat to", "peer", "n2", "error", "refused")
		expect("once for each peer",
			`level=WARN msg=raft peer=n1 error=refused said="failed to heartbeat to"`, "peer=n2")
		time.Sleep(2 * repeatAfter)
		l.Error("failed to heartbeat to", "peer", "n1")
		l.Warn("heartbeat timeout reached, starting election")
		expect("again after a while", "level=WARN", "level=INFO")
	})
}
