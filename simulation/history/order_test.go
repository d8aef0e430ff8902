package history_test

import (
	"strings"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation/history"
)

func TestInOrder(t *testing.T) {
	t.Parallel()
	ack := func(node pgcluster.NodeID, timeline pgcluster.Timeline, lsn pgcluster.LSN, began, ended int) history.Ack {
		return history.Ack{Node: node, Timeline: timeline, LSN: lsn, Began: time.Unix(int64(began), 0), Ended: time.Unix(int64(ended), 0)}
	}
	tests := []struct {
		name string
		acks []history.Ack
		want string // part of the error, "" for none
	}{
		{"one after the other", []history.Ack{ack("n1", 1, 10, 0, 1), ack("n1", 1, 20, 2, 3), ack("n2", 2, 30, 4, 5)}, ""},
		{"at the same time, in any order", []history.Ack{ack("n1", 1, 20, 0, 2), ack("n1", 1, 10, 1, 3)}, ""},
		{"two nodes on a timeline", []history.Ack{ack("n1", 1, 10, 0, 1), ack("n2", 1, 20, 2, 3)}, "both n1 and n2"},
		{"an LSN again", []history.Ack{ack("n1", 1, 20, 0, 1), ack("n2", 2, 10, 2, 3)}, "n2 acknowledged 2:0/A, although n1"},
		{"an old primary later on", []history.Ack{ack("n2", 2, 10, 0, 1), ack("n1", 1, 20, 2, 3)}, "on timeline 1, although n2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := history.InOrder(tt.acks)
			if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("InOrder() = %v, want an error with %q", err, tt.want)
			}
		})
	}
}
