package xpd

import (
	"testing"
	"time"

	"github.com/xpd-platform/xpd/internal/fence"
	"github.com/xpd-platform/xpd/pgcluster"
)

func TestNewBeat(t *testing.T) {
	t.Parallel()
	open := pgcluster.Report{
		Process: pgcluster.ProcessRunning, Role: pgcluster.RolePrimary, SyncNames: "ANY 1 (n2)",
		Pledged: pgcluster.Stamp{Epoch: 4}, Led: 4, Open: 4,
	}
	with := func(f func(*pgcluster.Report)) pgcluster.Report {
		r := open
		f(&r)
		return r
	}
	standby := with(func(r *pgcluster.Report) { r.Role, r.SyncNames, r.Open = pgcluster.RoleStandby, "", 0 })
	tests := []struct {
		name         string
		r            pgcluster.Report
		auto, always bool
		primary      bool
	}{
		{"the quorum protects a primary", open, false, true, true},
		{"a primary acknowledges alone", with(func(r *pgcluster.Report) { r.SyncNames = "" }), true, true, true},
		{"it is alone and closed", with(func(r *pgcluster.Report) { r.SyncNames, r.Open = "", 0 }), false, true, true},
		{"it pledged to another epoch", with(func(r *pgcluster.Report) { r.Pledged.Epoch = 5 }), true, true, true},
		{"a standby", standby, false, false, false},
		{"a primary that is down", with(func(r *pgcluster.Report) { r.Process = pgcluster.ProcessCrashed }), false, false, false},
		{"a primary that does not answer yet", with(func(r *pgcluster.Report) { r.Process = pgcluster.ProcessStarting }), false, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for mode, fenced := range map[FenceMode]bool{FenceAuto: tt.auto, FenceAlways: tt.always, FenceOff: false} {
				want := fence.Beat{Until: time.Minute, Data: "/data", Primary: tt.primary, Fenced: fenced}
				if got := newBeat(tt.r, mode, fence.Beat{Until: time.Minute, Data: "/data"}); got != want {
					t.Errorf("%s: newBeat() = %+v, want %+v", mode, got, want)
				}
			}
		})
	}
}
