package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/internal/clientflags"
	"github.com/xpd-platform/xpd/pgcluster"
)

const (
	minEvery   = 100 * time.Millisecond
	redrawing  = 200 * time.Millisecond // of what counts on between two answers
	unheard    = 3 * time.Second        // after which a view says that nobody answers
	shownAfter = 3                      // events of the history below a status
)

// answer is what one node says of the cluster.
type answer struct {
	cluster client.Cluster
	events  []failover.Event // the latest, oldest first
}

// source returns what is seen of the cluster. It takes a few seconds at most and ends
// with its context. The status before is where it may learn of other nodes.
type source func(ctx context.Context, before client.Cluster) (answer, error)

// watched is what a watch has seen.
type watched struct {
	answer
	answered bool      // at least once
	at       time.Time // of that answer, or when the watch began
	err      error     // of the latest question; nil if it was answered
	phase    time.Time // when the phase that an operation is in was first seen
}

// view shows what a watch sees.
type view interface {
	seen(w watched) error                // a question was answered, or was not
	tick(w watched, now time.Time) error // time has passed
}

// watch asks for the cluster's status again and again.
type watch struct {
	ask   source
	every time.Duration
	keys  <-chan byte      // nil: nobody types
	drawn <-chan os.Signal // the terminal has another size
	view  view
}

// run watches until ctx ends or somebody quits, and returns what it has seen last. A
// question that hangs does not keep it from showing that nobody answers.
func (w *watch) run(ctx context.Context) (watched, error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	redraw := time.NewTicker(redrawing)
	defer redraw.Stop()
	next := time.NewTimer(0)
	defer next.Stop()
	type answered struct {
		answer
		err error
	}
	answers := make(chan answered, 1) // one question at a time
	last := watched{at: time.Now()}
	asked := last.at
	for {
		var err error
		select {
		case <-ctx.Done():
			return last, nil
		case key, typing := <-w.keys:
			if quits(key) {
				return last, nil
			}
			if !typing {
				w.keys = nil
			}
		case <-next.C:
			asked = time.Now()
			before := last.cluster
			wg.Go(func() {
				a, err := w.ask(ctx, before)
				answers <- answered{a, err}
			})
		case a := <-answers:
			if ctx.Err() != nil {
				return last, nil
			}
			last = last.take(a.answer, a.err)
			if _, shut := errors.AsType[*clientflags.AccessError](a.err); shut && !last.answered {
				return last, nil // whoever is not let in waits in vain
			}
			err = w.view.seen(last)
			next.Reset(max(0, w.pace(last)-time.Since(asked)))
		case now := <-redraw.C:
			err = w.view.tick(last, now)
		case <-w.drawn:
			err = w.view.tick(last, time.Now())
		}
		if err != nil {
			return last, err
		}
	}
}

// pace is how often the cluster is looked at: an operation is over soon.
func (w *watch) pace(last watched) time.Duration {
	if last.err == nil && last.cluster.Op != nil {
		return min(w.every, minEvery)
	}
	return w.every
}

// take adds an answer, or that there was none.
func (w watched) take(a answer, err error) watched {
	if w.err = err; err != nil {
		return w
	}
	now := time.Now()
	if was, is := w.cluster.Op, a.cluster.Op; is == nil || was == nil || was.ID != is.ID || len(was.Steps) != len(is.Steps) {
		w.phase = now
	}
	w.answer, w.answered, w.at = a, true, now
	return w
}

// source returns what asks the node that answered last and, where that one does not
// answer or hears no Raft leader, all others: also those that were not named.
func (e *env) source() source {
	var seenBy pgcluster.NodeID
	ask := func(ctx context.Context, c *client.Client) (answer, error) {
		now, err := c.Cluster(ctx)
		if err != nil {
			return answer{}, err
		}
		events, err := c.ClusterHistory(ctx, shownAfter)
		return answer{now, events}, err
	}
	return func(ctx context.Context, before client.Cluster) (answer, error) {
		if m, ok := memberOf(before, seenBy); ok {
			if a, err := fromOne(ctx, e, secondPatience, m, ask); err == nil && a.cluster.Confirmed {
				return a, nil
			}
		}
		best, err := bestOf(fromEach(ctx, e, secondPatience, before.Members, ask))
		if err != nil {
			best, err = e.fromNamed(ctx, ask)
		}
		seenBy = best.cluster.SeenBy
		return best, err
	}
}

// fromNamed asks the nodes that were named and, where the first of them to answer hears
// no Raft leader, those that it knows.
func (e *env) fromNamed(ctx context.Context, ask func(context.Context, *client.Client) (answer, error)) (answer, error) {
	named, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	first, err := ask(named, e.ask)
	if err != nil {
		return answer{}, e.unanswered(err)
	}
	if !first.cluster.Confirmed {
		better, err := bestOf(fromEach(ctx, e, secondPatience, first.cluster.Members, ask))
		if err == nil && better.cluster.Confirmed {
			return better, nil
		}
	}
	return first, nil
}

// answerOf is what one member says, or why it says nothing.
type answerOf[T any] struct {
	got T
	err error
}

// fromEach asks every member by itself, all at once, and waits so long for each.
func fromEach[T any](ctx context.Context, e *env, wait time.Duration, members []client.ClusterMember, ask func(context.Context, *client.Client) (T, error)) []answerOf[T] {
	out := make([]answerOf[T], len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() { out[i].got, out[i].err = fromOne(ctx, e, wait, m, ask) })
	}
	wg.Wait()
	return out
}

var errNobody = errors.New("no member answers")

// bestOf returns the answer of a node that is in touch with the Raft leader or, without
// any, the first.
func bestOf(answers []answerOf[answer]) (answer, error) {
	best, err := answer{}, errNobody
	for _, a := range answers {
		if a.err == nil && (err != nil || (a.got.cluster.Confirmed && !best.cluster.Confirmed)) {
			best, err = a.got, nil
		}
	}
	return best, err
}

// watch shows the cluster until somebody has seen enough, and exits with the code of
// what was seen last.
func (c *statusCmd) watch(ctx context.Context, env *env) error {
	if c.Every < minEvery {
		return fmt.Errorf("--every %s: at least %s", c.Every, minEvery)
	}
	if env.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, env.timeout)
		defer cancel()
	}
	w := &watch{ask: env.source(), every: c.Every}
	last, err := env.show(ctx, w)
	switch {
	case err != nil:
		return err
	case !last.answered && last.err != nil:
		return last.err
	case !last.answered || last.err != nil:
		return exitError{code: exitUnknown}
	}
	if code := statusCode(last.cluster); code != exitOK {
		return exitError{code: code}
	}
	return nil
}

// show runs w with the view that suits where the output goes.
func (e *env) show(ctx context.Context, w *watch) (watched, error) {
	terminal, ok := terminalOf(e.out)
	switch {
	case e.json:
		w.view = &linesView{w: e.out}
		return w.run(ctx)
	case !ok:
		w.view = &blocksView{w: e.out}
		return w.run(ctx)
	}
	keys, restore, err := keysOf(e.in)
	if err != nil {
		return watched{}, err
	}
	defer restore()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	if _, err := fmt.Fprint(e.out, escEnter); err != nil {
		return watched{}, err
	}
	w.keys, w.drawn = keys, resized
	w.view = &screenView{
		screen: screen{w: e.out, size: terminalSize(terminal)}, servers: e.way.Servers, every: w.every, keys: keys != nil, paint: emphasis(e.out),
	}
	last, err := w.run(ctx)
	restore()
	text := ""
	if last.answered { // what was on the screen last stays to be read
		text = statusText(last.cluster)
	}
	_, printErr := fmt.Fprint(e.out, escLeave+text)
	return last, errors.Join(err, printErr)
}
