package failover_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/failover"
)

func TestWithAudit(t *testing.T) {
	t.Parallel()
	v := clock(see(primary(), standby("n2"), standby("n3")))
	s := steady()
	next, err := failover.Switchover(s, v, policy, "n2", "patch")
	if err != nil {
		t.Fatal(err)
	}
	who := failover.Asker{Name: "dba-token", Operator: "ann", From: "10.0.0.7"}
	got := failover.WithAudit(s, next, v, failover.AuditEntry{Asker: who, Action: "switchover to n2", Reason: "patch"})
	want := []failover.AuditEntry{{At: noon, Asker: who, Epoch: 1, Action: "switchover to n2", Reason: "patch", Op: next.Op.ID}}
	if diff := cmp.Diff(want, got.Audit); diff != "" {
		t.Errorf("WithAudit() (-want +got):\n%s", diff)
	}
	if again := failover.WithAudit(got, got, v, failover.AuditEntry{Action: "nothing"}); len(again.Audit) != 1 {
		t.Errorf("nothing was changed, and the trail is %+v", again.Audit)
	}
	raw, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var back failover.State
	if err := json.Unmarshal(raw, &back); err != nil || !cmp.Equal(back, got) {
		t.Errorf("the state reads back as another one (%v):\n%s", err, cmp.Diff(got, back))
	}
}

// The trail is bounded, whoever asks for whatever.
func TestWithAudit_bounded(t *testing.T) {
	t.Parallel()
	v := clock(see(primary()))
	s := steady()
	long := strings.Repeat("ä", 500)
	for i := range 250 {
		next := s
		next.Ops++
		s2 := failover.WithAudit(s, next, v, failover.AuditEntry{
			Asker: failover.Asker{Name: long, Operator: long, From: long}, Action: long, Reason: long, Op: uint64(i),
		})
		if len(s.Audit) > 0 && len(s2.Audit) > 0 && &s.Audit[0] == &s2.Audit[0] {
			t.Fatal("the trail of the state before is written to")
		}
		s = s2
	}
	if len(s.Audit) != 200 {
		t.Errorf("%d lines, want 200", len(s.Audit))
	}
	e := s.Audit[0]
	for _, text := range []string{e.Name, e.Operator, e.From, e.Action, e.Reason} {
		if len(text) > 240 || !utf8.ValidString(text) || !strings.HasSuffix(text, "…") {
			t.Errorf("%d bytes: %s", len(text), text)
		}
	}
	if raw, err := json.Marshal(s.Audit); err != nil || len(raw) > 200*900 {
		t.Errorf("the trail takes %d bytes, %v", len(raw), err)
	}
}

// A State of before there was a trail, or absences, reads as one without.
func TestState_readsOlder(t *testing.T) {
	t.Parallel()
	raw, err := json.Marshal(steady())
	if err != nil {
		t.Fatal(err)
	}
	if text := string(raw); strings.Contains(text, "audit") || strings.Contains(text, "absent") {
		t.Errorf("what is not there is written: %s", text)
	}
	var back failover.State
	if err := json.Unmarshal(raw, &back); err != nil || !cmp.Equal(back, steady()) {
		t.Errorf("%v, %s", err, cmp.Diff(steady(), back))
	}
	if _, err := failover.EndMaintenance(back, clock(see()), policy, "n2", ""); err == nil {
		t.Error("maintenance that nobody asked for ended")
	} else if _, ok := errors.AsType[*failover.RefusedError](err); !ok {
		t.Error(err)
	}
}
