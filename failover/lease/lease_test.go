package lease_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/failover/lease"
	"github.com/xpd-platform/xpd/pgcluster"
)

func TestLease_Renewed(t *testing.T) {
	t.Parallel()
	const s = time.Second
	leader, quorum := pgcluster.GrantLeader, pgcluster.GrantQuorum
	held := lease.Lease{Epoch: 4, Until: 10 * s, Source: leader}
	tests := []struct {
		name  string
		from  lease.Lease
		asked time.Duration
		grant pgcluster.Grant
		want  lease.Lease
	}{
		{
			name: "counts from before the question", asked: 5 * s,
			grant: pgcluster.Grant{Epoch: 4, For: 3 * s, Source: leader},
			want:  lease.Lease{Epoch: 4, Until: 8 * s, Source: leader},
		},
		{
			name: "is never longer than Length, whatever is granted", asked: 5 * s,
			grant: pgcluster.Grant{Epoch: 4, For: time.Hour, Source: leader},
			want:  lease.Lease{Epoch: 4, Until: 5*s + lease.Length, Source: leader},
		},
		{
			name: "is not made longer by less than nothing", asked: 5 * s,
			grant: pgcluster.Grant{Epoch: 4, For: -time.Hour, Source: leader},
			want:  lease.Lease{Epoch: 4, Until: 5 * s, Source: leader},
		},
		{
			name: "is extended", from: held, asked: 9 * s,
			grant: pgcluster.Grant{Epoch: 4, For: 3 * s, Source: quorum},
			want:  lease.Lease{Epoch: 4, Until: 12 * s, Source: quorum},
		},
		{
			name: "is not shortened by what was asked for earlier", from: held, asked: 6 * s,
			grant: pgcluster.Grant{Epoch: 4, For: 3 * s, Source: quorum},
			want:  held,
		},
		{
			name: "remembers of either of two grants that the primary is alone", from: held, asked: 6 * s,
			grant: pgcluster.Grant{Epoch: 4, For: 3 * s, Alone: true, Source: leader},
			want:  lease.Lease{Epoch: 4, Until: 10 * s, Alone: true, Source: leader},
		},
		{
			name: "forgets that the primary was alone", from: lease.Lease{Epoch: 4, Until: 10 * s, Alone: true, Source: leader}, asked: 8 * s,
			grant: pgcluster.Grant{Epoch: 4, For: 3 * s, Source: leader},
			want:  lease.Lease{Epoch: 4, Until: 11 * s, Source: leader},
		},
		{
			name: "of a new epoch replaces a longer one", from: held, asked: 6 * s,
			grant: pgcluster.Grant{Epoch: 5, For: s, Source: leader},
			want:  lease.Lease{Epoch: 5, Until: 7 * s, Source: leader},
		},
		{
			name: "of an old epoch is ignored", from: held, asked: 9 * s,
			grant: pgcluster.Grant{Epoch: 3, For: 3 * s, Source: leader},
			want:  held,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, tt.from.Renewed(tt.asked, tt.grant)); diff != "" {
				t.Errorf("Renewed() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLease_Left(t *testing.T) {
	t.Parallel()
	const s = time.Second
	l := lease.Lease{Epoch: 4, Until: 10 * s}
	for _, tt := range []struct {
		now   time.Duration
		epoch uint64
		want  time.Duration
	}{
		{7 * s, 4, 3 * s},
		{10 * s, 4, 0},
		{24 * time.Hour, 4, 0}, // the host was suspended
		{7 * s, 3, 0},
		{7 * s, 5, 0},
	} {
		if got := l.Left(tt.now, tt.epoch); got != tt.want {
			t.Errorf("Left(%v, %d) = %v, want %v", tt.now, tt.epoch, got, tt.want)
		}
	}
	if got := (lease.Lease{}).Left(0, 0); got != 0 {
		t.Errorf("Left() of the zero lease = %v, want 0", got)
	}
}

func TestBoottime_isNotBehindTheMonotonicClock(t *testing.T) {
	t.Parallel()
	start, from := time.Now(), lease.Boottime() // in this order: what passes between the two counts as measured
	for lease.Boottime() == from {
		runtime.Gosched()
	}
	if gone, measured := lease.Boottime()-from, time.Since(start); gone < 0 || gone > measured+time.Second {
		t.Errorf("Boottime() went on by %v in %v", gone, measured)
	}
}
