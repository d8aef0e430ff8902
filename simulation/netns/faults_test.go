package netns_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation/faulttest"
)

// Each test has the number of its fault in the design. They take turns on one
// cluster, so none is parallel.

const (
	pollPace = 20 * time.Millisecond
	// futile is how long a client of a node that is cut off insists.
	futile = 2 * time.Second
	// calm is for how long no failover must follow once a node is silent for another.
	calm = 2 * time.Second
	// shrinkBound is how soon nobody counts any more on a standby that fell silent:
	// PostgreSQL's own time for it, the policy's, and two questions to the lost host;
	// and as long again, for a machine that does much else.
	shrinkBound = 2 * (4 + 2 + 4) * time.Second
	// wide is what an answer may take where a failover comes late: the evidence takes its
	// time, or it waits for the election of a leader, or for the failovers before it, up to 8 s. A request then waits
	// for all of it, and in the node that is cut off until its deadline of 15 s first.
	wide = 25 * time.Second
)

func TestF08_hostLost(t *testing.T) { //nolint:paralleltest // see above
	report := underLoad(t, func(ctx context.Context, r run) error {
		return r.Disturb(ctx, "F8 host of the primary lost", func(ctx context.Context) error {
			primary, _, err := r.Roles(ctx)
			if err != nil {
				return err
			}
			err = r.Failover(ctx, func() error {
				// Unplugged first, so that nobody hears its connections close.
				return errors.Join(r.Unplug(ctx, primary), r.Cluster.KillNode(ctx, primary))
			})
			if err != nil {
				return err
			}
			return r.repair(ctx, func() error { return r.Cluster.StartNode(primary) })
		})
	})
	faulttest.ExpectMove(t, report, true)
}

func TestF10_primaryPartitionedAway(t *testing.T) { //nolint:paralleltest // see above
	faulttest.ExpectMove(t, underLoad(t, partitionPrimary), true)
}

// partitionPrimary cuts the primary off from the other hosts, not from shoppers.
func partitionPrimary(ctx context.Context, r run) error {
	return r.Disturb(ctx, "F10 primary partitioned away", func(ctx context.Context) error {
		primary, _, err := r.Roles(ctx)
		if err != nil {
			return err
		}
		if err := r.Failover(ctx, func() error { return r.Isolate(ctx, primary) }); err != nil {
			return err
		}
		if err := r.refused(ctx, primary); err != nil {
			return err
		}
		if err := r.AwaitEnrolment(ctx, time.Now()); err != nil {
			return fmt.Errorf("the new primary does not serve: %w", err)
		}
		return r.repair(ctx, nil)
	})
}

// An unplugged primary has no client that waits for a commit: when it is back it
// answers at once, before it learns that it was replaced.
func TestF10_primaryUnplugged(t *testing.T) { //nolint:paralleltest // see above
	report := underLoad(t, func(ctx context.Context, r run) error {
		return r.Disturb(ctx, "F10 primary unplugged, and plugged in again", func(ctx context.Context) error {
			primary, _, err := r.Roles(ctx)
			if err != nil {
				return err
			}
			if err := r.Failover(ctx, func() error { return r.Unplug(ctx, primary) }); err != nil {
				return err
			}
			if err := r.Hold(ctx, calm); err != nil { // units are assigned that it does not know
				return err
			}
			return r.repair(ctx, nil)
		})
	})
	faulttest.ExpectMove(t, report, true)
}

func TestF11_cutFromTheLeaderOnly(t *testing.T) { //nolint:paralleltest // see above
	report := underLoad(t, func(ctx context.Context, r run) error {
		return r.Disturb(ctx, "F11 primary cut from the Raft leader only", func(ctx context.Context) error {
			c, err := r.cast(ctx)
			if err != nil {
				return err
			}
			return r.withoutFailover(ctx, func() error {
				if err := r.Cut(ctx, c.primary, c.leader); err != nil {
					return err
				}
				return r.awaitSilent(ctx, c.leader, c.primary)
			})
		})
	})
	faulttest.ExpectMove(t, report, false)
}

// The primary reports to a leader that it reaches, but nobody can acknowledge its
// commits: it is alive, and of no use.
func TestF12_cutFromBothStandbysOnly(t *testing.T) { //nolint:paralleltest // see above
	slow(t)
	report := underLoadBy(t, faulttest.Rules{Hung: wide}, func(ctx context.Context, r run) error {
		return r.Disturb(ctx, "F12 primary's PostgreSQL cut from both standbys only", func(ctx context.Context) error {
			primary, _, err := r.Roles(ctx)
			if err != nil {
				return err
			}
			if err := r.Failover(ctx, func() error { return r.CutPort(ctx, primary, pgcluster.DefaultPGPort) }); err != nil {
				return err
			}
			return r.repair(ctx, nil)
		})
	})
	faulttest.ExpectMove(t, report, true)
}

func TestF13_oneWayDrops(t *testing.T) { //nolint:paralleltest // see above
	slow(t)
	for _, tt := range []struct { //nolint:paralleltest // see above
		name string
		cut  func(ctx context.Context, r run, primary pgcluster.NodeID, standbys []pgcluster.NodeID) error
	}{
		{"F13 all that the primary sends is lost", func(ctx context.Context, r run, primary pgcluster.NodeID, standbys []pgcluster.NodeID) error {
			return r.CutOneWay(ctx, primary, standbys...)
		}},
		{"F13 all that is sent to the primary is lost", func(ctx context.Context, r run, primary pgcluster.NodeID, standbys []pgcluster.NodeID) error {
			var errs []error
			for _, id := range standbys {
				errs = append(errs, r.CutOneWay(ctx, id, primary))
			}
			return errors.Join(errs...)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			report := underLoadBy(t, faulttest.Rules{Hung: wide}, func(ctx context.Context, r run) error {
				return r.Disturb(ctx, tt.name, func(ctx context.Context) error {
					primary, standbys, err := r.Roles(ctx)
					if err != nil {
						return err
					}
					err = r.Failover(ctx, func() error { return tt.cut(ctx, r, primary, standbys) })
					if err != nil {
						return err
					}
					if err := r.refused(ctx, primary); err != nil {
						return err
					}
					return r.repair(ctx, nil)
				})
			})
			faulttest.ExpectMove(t, report, true)
		})
	}
}

// Whoever is primary is cut off again and again, whether or not the role can move just
// then. Without the cooldown nearly every flap would be a failover; after the first at
// once, it makes the next ones wait 1, 2, 4 and 8 s.
func TestF14_flappingLink(t *testing.T) { //nolint:paralleltest // see above
	slow(t)
	const (
		flaps  = 10
		broken = 1800 * time.Millisecond // longer than the silence that counts
		whole  = 700 * time.Millisecond
		bound  = 5 // failovers: at 0, 1, 3, 7 and 15 s at the earliest, and each takes its time
	)
	underLoadBy(t, faulttest.Rules{Hung: wide}, func(ctx context.Context, r run) error {
		return r.Disturb(ctx, "F14 link of the primary flaps", func(ctx context.Context) error {
			before, err := r.Epoch(ctx)
			if err != nil {
				return err
			}
			for range flaps {
				st, err := r.Cluster.WaitStatus(ctx, "somebody says who is primary", func(st failover.Status) bool { return st.Primary != "" })
				if err != nil {
					return err
				}
				if err := errors.Join(r.Isolate(ctx, st.Primary), r.Hold(ctx, broken), r.Heal(ctx), r.Hold(ctx, whole)); err != nil {
					return err
				}
			}
			r.Repaired()
			if err := r.Cluster.WaitReady(ctx); err != nil {
				return err
			}
			n, err := r.failoversSince(ctx, before)
			if err != nil {
				return err
			}
			r.Say("%d flaps of a link made %d failovers", flaps, n)
			if n < 1 || n > bound {
				return fmt.Errorf("%d flaps of a link made %d failovers, want 1 to %d", flaps, n, bound)
			}
			return nil
		})
	})
}

// failoversSince counts the failovers that opened an epoch after the given one.
func (r run) failoversSince(ctx context.Context, epoch uint64) (n int, err error) {
	events, err := r.Client.ClusterHistory(ctx, 100)
	for _, e := range events {
		if e.Kind == string(failover.KindFailover) && e.Epoch > epoch {
			n++
		}
	}
	return n, err
}

func TestF15_oneOfThreeLinksCut(t *testing.T) { //nolint:paralleltest // see above
	// The third link is the one of F11.
	report := underLoad(t, func(ctx context.Context, r run) error {
		c, err := r.cast(ctx)
		if err != nil {
			return err
		}
		for _, cut := range []struct {
			name string
			a, b pgcluster.NodeID
		}{
			{"F15 link of the primary and a standby cut", c.third, c.primary},
			{"F15 link of both standbys cut", c.leader, c.third},
		} {
			err := r.Disturb(ctx, cut.name, func(ctx context.Context) error {
				return r.withoutFailover(ctx, func() error {
					if err := r.Cut(ctx, cut.a, cut.b); err != nil {
						return err
					}
					return r.awaitSilent(ctx, cut.a, cut.b)
				})
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	faulttest.ExpectMove(t, report, false)
}

func TestF16_hostOfAStandbyLost(t *testing.T) { //nolint:paralleltest // see above
	report := underLoad(t, func(ctx context.Context, r run) error {
		return r.Disturb(ctx, "F16 host of a standby lost", func(ctx context.Context) error {
			_, standbys, err := r.Roles(ctx)
			if err != nil {
				return err
			}
			lost, at := standbys[0], time.Now()
			if err := errors.Join(r.Unplug(ctx, lost), r.Cluster.KillNode(ctx, lost)); err != nil {
				return err
			}
			_, err = r.Cluster.WaitStatus(ctx, "the sync set shrinks", func(st failover.Status) bool {
				return !strings.Contains(st.Sync, string(lost))
			})
			if err != nil {
				return err
			}
			took := time.Since(at)
			r.Say("the sync set shrinks after %.1f s", took.Seconds())
			if took > shrinkBound {
				return fmt.Errorf("the sync set counts on the lost host for %.1f s, want at most %s", took.Seconds(), shrinkBound)
			}
			return r.repair(ctx, func() error { return r.Cluster.StartNode(lost) })
		})
	})
	faulttest.ExpectMove(t, report, false)
}

func TestF23_leaderPartitionedAway(t *testing.T) { //nolint:paralleltest // see above
	report := underLoad(t, func(ctx context.Context, r run) error {
		return r.Disturb(ctx, "F23 Raft leader, a standby, partitioned away", func(ctx context.Context) error {
			c, err := r.cast(ctx)
			if err != nil {
				return err
			}
			return r.withoutFailover(ctx, func() error {
				if err := r.Isolate(ctx, c.leader); err != nil {
					return err
				}
				return r.awaitSilent(ctx, c.primary, c.leader)
			})
		})
	})
	faulttest.ExpectMove(t, report, false)
}

// A leader that loses Raft alone still hears and orders everybody by HTTP, as long as it
// takes itself for the leader. The failover that follows is that of its successor.
func TestF23_leaderDeposedButHeard(t *testing.T) { //nolint:paralleltest // see above
	slow(t)
	report := underLoadBy(t, faulttest.Rules{Hung: wide}, func(ctx context.Context, r run) error {
		return r.Disturb(ctx, "F23 Raft leader cut off from Raft alone, and the primary dies", func(ctx context.Context) error {
			c, err := r.cast(ctx)
			if err != nil {
				return err
			}
			before, err := r.Epoch(ctx)
			if err != nil {
				return err
			}
			err = r.Failover(ctx, func() error {
				return errors.Join(
					r.Block(ctx, c.leader, pgcluster.DefaultRaftPort, c.primary, c.third),
					r.Block(ctx, c.primary, pgcluster.DefaultRaftPort, c.leader),
					r.Block(ctx, c.third, pgcluster.DefaultRaftPort, c.leader),
					r.Cluster.KillPostgres(c.primary))
			})
			if err != nil {
				return err
			}
			opened, err := r.Cluster.Status(ctx, c.third)
			if err != nil {
				return err
			}
			if err := r.refusesOrder(ctx, opened.Primary, before); err != nil {
				return err
			}
			if err := r.Hold(ctx, calm); err != nil { // it may try
				return err
			}
			if err := errors.Join(r.repair(ctx, nil), r.Cluster.WaitReady(ctx)); err != nil {
				return err
			}
			st, err := r.Client.Cluster(ctx)
			if err == nil && (st.Epoch != before+1 || st.Primary != opened.Primary) {
				err = fmt.Errorf("%s of epoch %d became %s of epoch %d, want epoch %d alone", opened.Primary, opened.Epoch, st.Primary, st.Epoch, before+1)
			}
			return err
		})
	})
	faulttest.ExpectMove(t, report, true)
}

// refusesOrder gives a primary an order that its deposed leader may have had on the way,
// of the epoch before, and checks that it is refused for that.
func (r run) refusesOrder(ctx context.Context, primary pgcluster.NodeID, epoch uint64) error {
	if r.Cluster.Trust() != nil {
		return nil // only who shows the certificate of a node may give orders at all: F48
	}
	text, err := os.ReadFile(filepath.Join(r.Cluster.Dir(), "secret"))
	if err != nil {
		return err
	}
	secret, err := pgcluster.ParseSecret(text)
	if err != nil {
		return err
	}
	err = client.NewNodeClient(r.Cluster.Members(), secret.Password(pgcluster.PasswordNode), nil).Order(ctx, pgcluster.Order{
		Node: primary, Kind: pgcluster.OrderStop, Stamp: pgcluster.Stamp{Epoch: epoch, Term: math.MaxUint32},
	})
	if !errors.Is(err, pgcluster.ErrStaleOrder) {
		return fmt.Errorf("%s took an order of epoch %d: %w", primary, epoch, cmp.Or(err, errors.New("accepted")))
	}
	r.Say("%s refuses an order of epoch %d: %v", primary, epoch, err)
	return nil
}

// cast is who plays which part in a cluster of three.
type cast struct{ primary, leader, third pgcluster.NodeID }

// cast returns the parts once the Raft leader is not the primary.
func (r run) cast(ctx context.Context) (cast, error) {
	tick := time.NewTicker(pollPace)
	defer tick.Stop()
	for {
		st, err := r.Client.Cluster(ctx)
		if err != nil {
			return cast{}, err
		}
		if st.Op == nil && st.Primary != "" && st.Leader != "" && st.Leader != st.Primary {
			others := slices.DeleteFunc(r.Cluster.Members(), func(m pgcluster.Member) bool { return m.ID == st.Primary || m.ID == st.Leader })
			return cast{primary: st.Primary, leader: st.Leader, third: others[0].ID}, nil
		}
		select {
		case <-ctx.Done():
			return cast{}, fmt.Errorf("wait for a leader beside the primary: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// awaitSilent waits until viewer hears no more of id.
func (r run) awaitSilent(ctx context.Context, viewer, id pgcluster.NodeID) error {
	tick := time.NewTicker(pollPace)
	defer tick.Stop()
	for {
		st, err := r.Cluster.Status(ctx, viewer)
		if err == nil && slices.ContainsFunc(st.Nodes, func(n failover.NodeStatus) bool { return n.ID == id && n.State == "silent" }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("wait until %s is silent for %s: %w", id, viewer, ctx.Err()), err)
		case <-tick.C:
		}
	}
}

// refused checks that a client that reaches only node id gets no treatment for a
// new unit acknowledged, however long it insists, although xpd is there to refuse it.
func (r run) refused(ctx context.Context, id pgcluster.NodeID) error {
	c, err := r.Cluster.NodeClient(id)
	if err != nil {
		return err
	}
	if status, text := r.Cluster.Get(ctx, id, "/healthz"); status != http.StatusOK {
		return fmt.Errorf("/healthz of %s, which is only cut off: %d %s", id, status, text)
	}
	short, cancel := context.WithTimeout(ctx, futile)
	defer cancel()
	got, err := c.Treatments(short, client.Unit{Type: "user", ID: fmt.Sprintf("customer-of-%s-%d", id, time.Now().UnixNano())})
	if err == nil {
		return fmt.Errorf("%s, which is cut off, acknowledged %+v", id, got)
	}
	answer, answered := errors.AsType[*client.Problem](err)
	if (answered && answer.Status != http.StatusServiceUnavailable) || (!answered && !errors.Is(err, context.DeadlineExceeded)) {
		return fmt.Errorf("%s, which is cut off, neither refuses nor waits: %w", id, err)
	}
	r.Say("%s acknowledges nothing: %v", id, err)
	return nil
}

// withoutFailover breaks something, lets the load go on, checks that writes were
// acknowledged and that the epoch stayed, and repairs the links.
func (r run) withoutFailover(ctx context.Context, damage func() error) error {
	epoch, err := r.Epoch(ctx)
	if err != nil {
		return err
	}
	if err := damage(); err != nil {
		return err
	}
	if err := r.Hold(ctx, calm); err != nil {
		return err
	}
	if err := r.AwaitEnrolment(ctx, time.Now()); err != nil {
		return fmt.Errorf("writes do not go on: %w", err)
	}
	if err := r.repair(ctx, nil); err != nil {
		return err
	}
	if err := r.Cluster.WaitReady(ctx); err != nil {
		return err
	}
	if now, err := r.Epoch(ctx); err != nil || now != epoch {
		return errors.Join(fmt.Errorf("epoch %d became %d: there was a failover", epoch, now), err)
	}
	return nil
}

// repair makes the links whole and brings back what else was lost.
func (r run) repair(ctx context.Context, more func() error) error {
	if err := r.Heal(ctx); err != nil {
		return err
	}
	r.Repaired()
	if more == nil {
		return nil
	}
	return more()
}
