package simulation

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation/localcluster"
)

const (
	ackInterval = 5 * time.Millisecond
	// aftermath is how long after the cluster has healed latencies still count as
	// disturbed: caches and connections of the nodes that came back are cold.
	aftermath = time.Second
	// installPatience bounds setting up the experiments on a cluster that is ready.
	installPatience = 30 * time.Second
)

// Options is the load on a cluster. The same seed gives the same requests at the
// same times; loads on one cluster must have different seeds.
type Options struct {
	Rate     float64 // requests for treatments per second; exposures and purchases come on top
	Seed     uint64
	Progress io.Writer // is told what happens, line by line
	MayFail  bool      // requests may fail, where no promise says that they do not
}

// Session is a cluster under load. A script disturbs it.
type Session struct {
	Cluster *localcluster.Cluster
	Client  *client.Client // for a script's own calls, which are not part of the load

	o       Options
	start   time.Time
	journal *journal
	load    *load
	floor   *load

	measured     time.Time // latencies before it are warm-up
	repaired     time.Time // when the present disturbance was put right, or began if it does not need to be
	disturbances []Disturbance
}

// Disturbance is something bad that was done to a cluster under load.
type Disturbance struct {
	Name   string           `json:"name"`
	At     Millis           `json:"at_ms"`    // since the load began
	Pause  Millis           `json:"pause_ms"` // longest time without an acknowledged new assignment
	Target Millis           `json:"target_ms,omitempty"`
	From   pgcluster.NodeID `json:"primary_before"`
	To     pgcluster.NodeID `json:"primary_after"`
	Healed Millis           `json:"healed_after_ms"` // until the next loss of a node would be survived
	Rejoin Millis           `json:"rejoin_ms"`       // of that, since what was broken was put right

	window window
}

// Drive puts a ready cluster under load, runs script, waits for all answers and
// returns what came of it. The error is that of script, or says why nothing could
// be measured; a broken promise is no error but part of the Report.
func Drive(ctx context.Context, c *localcluster.Cluster, o Options, script func(context.Context, *Session) error) (Report, error) {
	admin, err := c.Client()
	if err != nil {
		return Report{}, err
	}
	installCtx, cancel := context.WithTimeout(ctx, installPatience)
	defer cancel()
	if err := Install(installCtx, admin, shop()); err != nil {
		return Report{}, err
	}
	j := newJournal(fmt.Sprintf("shopper-%d-", o.Seed))
	s := &Session{
		Cluster: c, Client: admin, o: o, start: time.Now(), journal: j,
		load: newLoad(c, j), floor: newLoad(c, j),
	}
	s.measured = s.start

	enough := make(chan struct{})
	loadCtx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	var streams sync.WaitGroup
	streams.Go(func() { s.load.run(loadCtx, s.start, newWorkload(o.Seed, o.Rate).next, enough) })
	streams.Go(func() { s.floor.run(loadCtx, s.start, newPings(o.Seed, o.Rate).next, enough) })
	err = script(ctx, s)
	close(enough)
	if err != nil {
		giveUp()
	}
	streams.Wait()
	if err != nil {
		return Report{}, err
	}
	return s.report(ctx)
}

// Warm ends the warm-up: latencies count from now on.
func (s *Session) Warm() { s.measured = time.Now() }

// Hold lets the load go on for d.
func (s *Session) Hold(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Say tells what happens.
func (s *Session) Say(format string, args ...any) {
	fmt.Fprintf(s.o.Progress, "%7.1f s  %s\n", time.Since(s.start).Seconds(), fmt.Sprintf(format, args...))
}

// Disturb runs steps, waits until the cluster has healed and new assignments are
// acknowledged, and records how long they paused.
func (s *Session) Disturb(ctx context.Context, name string, steps func(context.Context) error) error {
	before, err := s.Cluster.Primary(ctx)
	if err != nil {
		return err
	}
	from := time.Now()
	s.repaired = from
	if err := steps(ctx); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := s.Cluster.WaitReady(ctx); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	healed := time.Now()
	if err := s.AwaitEnrolment(ctx, healed); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	after, err := s.Cluster.Primary(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	d := Disturbance{
		Name: name, At: Millis(from.Sub(s.start)), From: before, To: after, Target: targetPause(name),
		Healed: Millis(healed.Sub(from)), Rejoin: Millis(healed.Sub(s.repaired)), Pause: Millis(s.journal.longestPause(from, time.Now())),
		window: window{from: from, to: healed.Add(aftermath)},
	}
	s.disturbances = append(s.disturbances, d)
	s.Say("%s: writes paused %d ms, primary %s, healed after %.1f s",
		name, time.Duration(d.Pause).Milliseconds(), after, time.Duration(d.Healed).Seconds())
	return nil
}

// Repaired tells that what the steps of a disturbance broke is put right: from now
// on the cluster can heal.
func (s *Session) Repaired() { s.repaired = time.Now() }

// AwaitTraffic returns once at least n of everything was acknowledged.
func (s *Session) AwaitTraffic(ctx context.Context, n int) error {
	return s.await(ctx, fmt.Sprintf("%d of everything to be acknowledged", n), func() bool {
		a := s.journal.acknowledged()
		return min(a.Assignments, a.Exposures, a.Events) >= n
	})
}

// AwaitEnrolment returns once the assignment of a new unit was acknowledged after t.
func (s *Session) AwaitEnrolment(ctx context.Context, t time.Time) error {
	return s.await(ctx, "a new unit to be assigned", func() bool { return s.journal.enrolledSince(t) })
}

// await returns once ok does.
func (s *Session) await(ctx context.Context, what string, ok func() bool) error {
	tick := time.NewTicker(ackInterval)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}

// Epoch returns the epoch that the cluster is in.
func (s *Session) Epoch(ctx context.Context) (uint64, error) {
	status, err := s.Cluster.WaitStatus(ctx, "writes are open", func(st failover.Status) bool {
		return st.Level != failover.LevelNoWrites
	})
	return status.Epoch, err
}

// Roles returns the primary and the other nodes.
func (s *Session) Roles(ctx context.Context) (pgcluster.NodeID, []pgcluster.NodeID, error) {
	primary, err := s.Cluster.Primary(ctx)
	if err != nil {
		return "", nil, err
	}
	return primary, s.others(primary), nil
}

// Failover runs fault and returns once writes are open in a later epoch.
func (s *Session) Failover(ctx context.Context, fault func() error) error {
	epoch, err := s.Epoch(ctx)
	if err != nil {
		return err
	}
	if err := fault(); err != nil {
		return err
	}
	_, err = s.Cluster.WaitStatus(ctx, "another epoch is open", func(st failover.Status) bool {
		return st.Epoch > epoch && st.Level != failover.LevelNoWrites
	})
	return err
}
