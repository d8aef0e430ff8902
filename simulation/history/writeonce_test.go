package history_test

import (
	"strings"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/simulation"
	"github.com/xpd-platform/xpd/simulation/history"
)

func TestWriteOnce(t *testing.T) {
	t.Parallel()
	call := func(value string, began, ended int, read bool) simulation.Call {
		return simulation.Call{Place: "p", Value: value, Read: read, Began: time.Unix(int64(began), 0), Ended: time.Unix(int64(ended), 0)}
	}
	tests := []struct {
		name  string
		calls []simulation.Call
		want  string // part of the error, "" for none
	}{
		{"the same twice", []simulation.Call{call("a", 0, 2, false), call("a", 1, 3, false), call("a", 4, 4, true)}, ""},
		{"two values, one after the other", []simulation.Call{call("a", 0, 1, false), call("b", 2, 3, false)}, "not written once"},
		{"two values at the same time", []simulation.Call{call("a", 0, 3, false), call("b", 1, 2, false)}, "not written once"},
		{"an answer that no table has", []simulation.Call{call("a", 0, 1, false), call("", 2, 2, true)}, "not written once"},
		{"an answer that a table has otherwise", []simulation.Call{call("a", 0, 1, false), call("b", 2, 2, true)}, "not written once"},
		{"nothing answered, nothing there", []simulation.Call{call("", 2, 2, true)}, ""},
		{"a read that was too early to see it", []simulation.Call{call("", 0, 2, true), call("a", 1, 3, false)}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := history.WriteOnce(tt.calls)
			if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("WriteOnce() = %v, want an error with %q", err, tt.want)
			}
		})
	}
}
