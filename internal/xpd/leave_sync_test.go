package xpd

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// reluctant accepts an order only once it has refused some.
type reluctant struct {
	nodeAgent

	refuses int
	orders  []pgcluster.Order
}

func (a *reluctant) Changed(context.Context, uint64) pgcluster.Report {
	return pgcluster.Report{Role: pgcluster.RoleStandby, Pledged: pgcluster.Stamp{Epoch: 3, Index: 9}}
}

func (a *reluctant) Submit(_ context.Context, o pgcluster.Order) error {
	a.orders = append(a.orders, o)
	if len(a.orders) <= a.refuses {
		return errors.New("disk full")
	}
	return nil
}

// The PostgreSQL of a removed node is ordered to stop until the order is accepted; an end
// of xpd ends that, too.
func TestDaemon_stopForGood(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		refuses, want int
		took          time.Duration
	}{
		"at once":       {0, 1, 0},
		"the third one": {2, 3, 2 * removalAgain},
		"never":         {1000, 10, 10 * removalAgain},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := &reluctant{refuses: tt.refuses}
				d := &daemon{agent: a, Options: Options{Node: "n3", Logger: slog.New(slog.DiscardHandler)}}
				ctx, cancel := context.WithTimeout(t.Context(), 9*removalAgain+removalAgain/2)
				defer cancel()
				began := time.Now()
				d.stopForGood(ctx, "7")
				if len(a.orders) != tt.want || time.Since(began) > tt.took {
					t.Errorf("%d orders in %s, want %d in %s", len(a.orders), time.Since(began), tt.want, tt.took)
				}
				if o := a.orders[0]; o.Kind != pgcluster.OrderStop || o.Stamp != (pgcluster.Stamp{Epoch: 3, Index: 10}) || o.SystemID != "7" {
					t.Errorf("order %+v, want one to stop that is newer than what was promised", o)
				}
			})
		})
	}
}
