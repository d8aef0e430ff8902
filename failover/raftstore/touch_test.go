package raftstore

import (
	"testing"
	"time"
)

func TestTouch(t *testing.T) {
	t.Parallel()
	var tch touch
	start := time.Now()
	now := start
	pass := func(d time.Duration, leader bool) {
		for end := now.Add(d); now.Before(end); {
			now = now.Add(touchEvery)
			tch.see(now, leader)
		}
	}
	want := func(when string, leader, before time.Duration) {
		t.Helper()
		gotLeader, gotBefore := tch.at(now)
		if gotLeader != leader || gotBefore != before {
			t.Errorf("%s: a leader for %s, none for %s before; want %s and %s", when, gotLeader, gotBefore, leader, before)
		}
	}
	pass(time.Minute, false)
	want("none since the start", 0, 0)
	pass(touchEvery, true)
	pass(time.Minute, true)
	want("what was before the start is not known", time.Minute, 0)
	pass(5*time.Second, false)
	pass(5*time.Second, true)
	want("an election is no break", 70*time.Second, 0)
	pass(2*time.Minute, false)
	want("none now", 0, 0)
	pass(touchEvery, true)
	pass(3*time.Second, true)
	want("after a long break", 3*time.Second, 2*time.Minute+touchEvery)
}
