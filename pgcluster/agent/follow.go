package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// diagnoseAfter is how long a standby may fail to stream before the agent looks
// for a reason that waiting does not cure.
const diagnoseAfter = 2 * time.Second

// follow makes the node a standby of the order's upstream: by pointing what runs
// at it, or by a start, a rewind or a clone, whichever the local WAL needs.
func (a *Agent) follow(ctx context.Context, o pgcluster.Order) error {
	if _, err := a.save(func(s *saved) { s.Recruited, s.Barrier, s.Open = 0, 0, 0 }); err != nil {
		return err
	}
	if err := a.fence(ctx); err != nil {
		return err
	}
	// Not again for a repeated order: what it has now may be what was acknowledged.
	st := a.state.get()
	asked := o.Clone > st.Cloned
	if asked && o.Void {
		asked = false
		if _, err := a.save(func(s *saved) { s.Cloned = o.Clone }); err != nil {
			return err
		}
	}
	if asked && o.Discard {
		if err := a.discard(ctx, o); err != nil {
			return err
		}
	}
	if asked || (o.Reclone && max(st.Led, st.Followed) != o.Stamp.Epoch) {
		if err := a.takeWay(ctx, o, routeClone); err != nil {
			return err
		}
	}
	var err error
	switch {
	case a.running() == nil:
		err = a.followFromStopped(ctx, o)
	case !a.Report().Running():
		// It may lack WAL without which it does not answer.
		err = a.startAttached(ctx, o)
	}
	if err != nil {
		return err
	}
	if err := a.followUp(ctx, o); err != nil {
		return err
	}
	a.copies = backoff{}
	return a.removeOldData(0)
}

// followFromStopped brings the data directory onto the upstream's lineage as far
// as one can tell without a server, and starts it.
func (a *Agent) followFromStopped(ctx context.Context, o pgcluster.Order) error {
	d, err := a.inspect(ctx)
	if err != nil {
		return err
	}
	if d.role == pgcluster.RoleNone {
		return a.clone(ctx, o)
	}
	if o.SystemID != "" && d.control.SystemID != o.SystemID {
		return fmt.Errorf("%w: system id %s, ordered %s", pgcluster.ErrWrongSystem, d.control.SystemID, o.SystemID)
	}
	if d.role == pgcluster.RolePrimary {
		return a.followAsFormerPrimary(ctx, o, d)
	}
	// What it has received is known only after a start.
	return a.startAttached(ctx, o)
}

func (a *Agent) followAsFormerPrimary(ctx context.Context, o pgcluster.Order, d stopped) error {
	end := d.position
	way := routeTo(o.Lineage, d.lineage, end)
	if end.Timeline == o.Lineage.Current() {
		// Two primaries on one timeline number share no more than its beginning.
		way = routeClone
	}
	if way == routeFollow && !d.known {
		way = routeRewind // it crashed: where its WAL ends is not known
	}
	if way == routeFollow {
		return a.startAttached(ctx, o)
	}
	return a.takeWay(ctx, o, way)
}

// takeWay rewinds or clones. Both need an upstream that is on its new timeline.
func (a *Agent) takeWay(ctx context.Context, o pgcluster.Order, way route) error {
	if err := a.checkUpstream(ctx, o); err != nil {
		return err
	}
	if err := a.roomFor(ctx, way, o); err != nil {
		return err
	}
	if err := a.stop(ctx, fastStop); err != nil {
		return err
	}
	if way == routeRewind {
		return a.rewind(ctx, o)
	}
	return a.clone(ctx, o)
}

// checkUpstream makes sure that the upstream is a primary of our cluster.
func (a *Agent) checkUpstream(ctx context.Context, o pgcluster.Order) error {
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	conn, err := a.connectTo(ctx, o.Upstream)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	var system string
	var recovering bool
	err = conn.QueryRow(ctx, "SELECT system_identifier::text, pg_is_in_recovery() FROM pg_control_system()").
		Scan(&system, &recovering)
	if err != nil {
		return fmt.Errorf("look at %s: %w", o.Upstream, err)
	}
	if o.SystemID != "" && system != o.SystemID {
		return fmt.Errorf("%w: %s has system id %s, ordered %s", pgcluster.ErrWrongSystem, o.Upstream, system, o.SystemID)
	}
	if recovering {
		return fmt.Errorf("%s is not promoted yet", o.Upstream)
	}
	return nil
}

// attach lets the node log in to its upstream and tells it to.
func (a *Agent) attach(o pgcluster.Order) error {
	if _, err := a.save(func(s *saved) { s.Followed = o.Stamp.Epoch }); err != nil {
		return err
	}
	if err := a.giveKey(); err != nil {
		return err
	}
	return a.apply(func(s *settings) {
		*s = detached()
		s.Upstream, s.Stream = o.Upstream, o.Stamp.Epoch
	})
}

// startAttached starts a standby that streams from the upstream as soon as it has
// replayed its own WAL. It is safe whatever that WAL is: the upstream refuses a
// start from where it has never been.
func (a *Agent) startAttached(ctx context.Context, o pgcluster.Order) error {
	a.step("starting as a standby of " + string(o.Upstream))
	if err := a.markStandby(); err != nil {
		return err
	}
	if err := a.attach(o); err != nil {
		return err
	}
	mark := a.markLog()
	if err := a.launchIfDown(ctx); err != nil {
		return err
	}
	for {
		bounded, cancel := context.WithTimeout(ctx, diagnoseAfter)
		err := a.awaitRunning(bounded)
		cancel()
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case errors.Is(err, errServerGone) && mark.says("requested timeline"):
			return a.takeWay(ctx, o, routeRewind)
		case errors.Is(err, errServerGone):
			return err
		case mark.says("has already been removed"):
			return a.takeWay(ctx, o, routeClone)
		}
	}
}

func (a *Agent) launchIfDown(ctx context.Context) error {
	if a.running() != nil {
		return nil
	}
	if err := a.launch(ctx); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	return nil
}

// followUp points a running standby at the upstream and returns once it streams.
func (a *Agent) followUp(ctx context.Context, o pgcluster.Order) error {
	if err := a.awaitRunning(ctx); err != nil {
		return err
	}
	way, err := a.currentWay(ctx, o)
	if err != nil {
		return err
	}
	if way != routeFollow {
		return a.takeWay(ctx, o, way)
	}
	mark := a.markLog()
	if err := a.attach(o); err != nil {
		return err
	}
	a.step("waiting to stream from " + string(o.Upstream))
	for {
		bounded, cancel := context.WithTimeout(ctx, diagnoseAfter)
		err := a.awaitStreaming(bounded, o.Upstream, o.Stamp.Epoch)
		cancel()
		if err == nil || !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return err
		}
		if mark.says("has already been removed") {
			return a.takeWay(ctx, o, routeClone)
		}
		if way, err := a.currentWay(ctx, o); err != nil || way != routeFollow {
			return errors.Join(err, errors.New("the standby replayed past the upstream's lineage"))
		}
	}
}

func (a *Agent) currentWay(ctx context.Context, o pgcluster.Order) (route, error) {
	conn, err := a.admin(ctx)
	if err != nil {
		return 0, err
	}
	now, err := a.observeWithin(ctx, conn)
	if err != nil {
		return 0, err
	}
	if ahead(o.Lineage, now.lineage) {
		return routeFollow, nil
	}
	return routeTo(o.Lineage, now.lineage, now.position), nil
}

// ahead reports whether a running standby has gone on from the ordered lineage: it
// was pointed at its upstream before that was promoted, and streams the timeline
// that the order does not know yet. WAL of its own on such a timeline is what
// Reclone is ordered for.
func ahead(ordered, local pgcluster.Lineage) bool {
	return len(local) > len(ordered) && slices.Equal(ordered, local[:len(ordered)])
}

// awaitStreaming waits for a walreceiver that streams from this very upstream in
// this epoch: the one of the upstream before may live on for a moment.
func (a *Agent) awaitStreaming(ctx context.Context, upstream pgcluster.NodeID, epoch uint64) error {
	m, ok := a.member(upstream)
	if !ok {
		return fmt.Errorf("stream from %q: not a member", upstream)
	}
	sql := fmt.Sprintf(`
SELECT count(*) = 1 FROM pg_stat_wal_receiver
WHERE status = 'streaming' AND sender_host = %s AND sender_port = %d AND slot_name = %s`,
		quoteLiteral(m.Host), m.PGPort, quoteLiteral(pgcluster.SlotName(epoch, a.o.Node)))
	err := until(ctx, 5*time.Millisecond, func(ctx context.Context) (bool, error) {
		var streams bool
		err := a.queryRow(ctx, sql, &streams)
		return streams, err
	})
	if err != nil {
		return fmt.Errorf("stream from %s: %w", upstream, err)
	}
	a.probeNow()
	err = a.await(ctx, func(r pgcluster.Report) (bool, error) { return r.Receiver.Streaming, nil })
	return err
}
