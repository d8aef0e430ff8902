package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/experiment/pgstore"
	"github.com/xpd-platform/xpd/internal/pgtest"
)

// Many callers on two nodes ask for the same new units: all get one answer, and
// every row is there once.
func TestTreatments_racingNodes(t *testing.T) {
	t.Parallel()
	pool := newDB(t)
	a := start(t, options(pool))
	mustLayer(t, a, "page")
	mustLayer(t, a, "price")
	mustRun(t, a, half("button", "page", 0, 10000))
	mustRun(t, a, half("offer", "price", 0, 5000))
	o := options(pool)
	o.DB = lostReplies{pgtest.DB{Pool: pool}}
	b := start(t, o)

	const units, callers = 100, 8
	answers := [callers][units][]experiment.Decision{}
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			store := []*pgstore.Store{a, b}[c%2]
			for i := range units {
				d, err := store.Treatments(t.Context(), user(i), nil)
				if err != nil {
					t.Error(err)
					return
				}
				answers[c][i] = d
			}
		})
	}
	wg.Wait()
	enrolled := 0
	for i := range units {
		for c := range callers {
			for j, d := range answers[c][i] {
				if first := answers[0][i][j]; d.Experiment != first.Experiment || d.Treatment != first.Treatment || d.Reason != first.Reason {
					t.Errorf("unit %d: caller %d got %+v, caller 0 %+v", i, c, d, first)
				}
			}
		}
		for _, d := range answers[0][i] {
			if d.Reason == experiment.ReasonAssigned {
				enrolled++
			}
		}
	}
	if got := count(t, pool, "SELECT count(*) FROM assignment"); got != enrolled {
		t.Errorf("%d rows, want %d", got, enrolled)
	}
	if got := count(t, pool, "SELECT count(*) FROM unit"); got != units {
		t.Errorf("%d units, want %d", got, units)
	}
}

// interrupting is a DB that, once armed, does something else before its next work.
type interrupting struct {
	pgtest.DB
	next *atomic.Pointer[func()]
}

func (d interrupting) Do(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error {
	if f := d.next.Swap(nil); f != nil {
		(*f)()
	}
	return d.DB.Do(ctx, fn)
}

func (d interrupting) Read(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error {
	return d.Do(ctx, fn)
}

// A pause that is acknowledged on one node holds on the other from that moment,
// though its snapshot may be older: nobody is enrolled any more.
func TestTreatments_pausedElsewhere(t *testing.T) {
	t.Parallel()
	pool := newDB(t)
	a := start(t, options(pool))
	mustLayer(t, a, "page")
	mustRun(t, a, half("button", "page", 0, 10000))
	var next atomic.Pointer[func()]
	o := options(pool)
	o.DB = interrupting{pgtest.DB{Pool: pool}, &next}
	b := start(t, o)
	for i := range 40 {
		mustTreat(t, b, user(1000+i), "button") // b serves the running experiment again
		paused := make(chan struct{})
		pause := func() {
			defer close(paused)
			if _, err := a.MoveExperiment(t.Context(), "button", experiment.StatePaused, 0); err != nil {
				t.Error(err) // not Fatal: a flusher runs this
			}
		}
		next.Store(&pause)
		d := mustTreat(t, b, user(i), "button")
		<-paused
		rows := count(t, pool, "SELECT count(*) FROM assignment a JOIN unit u ON u.key = a.unit_key WHERE u.id = $1", user(i).ID)
		if assigned := d.Reason == experiment.ReasonAssigned; assigned != (rows == 1) {
			t.Fatalf("unit %d: %s with %d rows", i, d.Reason, rows)
		}
		late := mustTreat(t, b, user(2000+i), "button")
		if n := count(t, pool, "SELECT count(*) FROM unit WHERE id = $1", user(2000+i).ID); late.Reason != experiment.ReasonPaused || n != 0 {
			t.Fatalf("a unit that came after the pause: %s with %d rows", late.Reason, n)
		}
		mustMove(t, a, "button", experiment.StateRunning)
	}
}

// Rows may name a treatment that the snapshot of this node does not have yet: they
// are read with their version, so it is fetched first.
func TestTreatments_addedElsewhere(t *testing.T) {
	t.Parallel()
	pool := newDB(t)
	a := start(t, options(pool))
	mustLayer(t, a, "page")
	mustRun(t, a, half("button", "page", 0, 10000))
	var next atomic.Pointer[func()]
	o := options(pool)
	o.DB = interrupting{pgtest.DB{Pool: pool}, &next}
	b := start(t, o)
	d := half("button", "page", 0, 10000)
	for i := range 20 {
		mustTreat(t, b, user(1000+i), "button")
		added := fmt.Sprintf("t%d", i)
		var told experiment.Decision
		done := make(chan struct{})
		add := func() {
			defer close(done)
			for j := range d.Treatments {
				d.Treatments[j].Weight = 0
			}
			d.Treatments = append(d.Treatments, experiment.Treatment{Key: added, Weight: 1})
			if _, err := a.ReviseExperiment(t.Context(), d, 0); err != nil {
				t.Error(err)
				return
			}
			ds, err := a.Treatments(t.Context(), user(i), []string{"button"})
			if err != nil {
				t.Error(err) // not Fatal: a flusher runs this
				return
			}
			told = ds[0]
		}
		next.Store(&add)
		mustTreat(t, b, user(i), "button")
		<-done
		if got := mustTreat(t, b, user(i), "button"); got.Treatment != told.Treatment {
			t.Fatalf("unit %d got %q on one node and %q on the other", i, told.Treatment, got.Treatment)
		}
	}
}

// Two nodes answer while a third edits: what a unit was told stays so as long as
// its experiment lives, and it is in one experiment of the layer at most.
func TestTreatments_whileDefinitionsChange(t *testing.T) {
	t.Parallel()
	pool := newDB(t)
	editor := start(t, options(pool))
	mustLayer(t, editor, "page")
	mustRun(t, editor, half("a", "page", 0, 5000))
	mustRun(t, editor, half("b", "page", 5000, 10000))
	nodes := []*pgstore.Store{start(t, options(pool)), start(t, options(pool))}

	var over atomic.Bool
	var told sync.Map // unit and run → treatment
	var enrolled atomic.Int64
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(c)))
			for !over.Load() {
				u := user(rng.IntN(300))
				ds, err := nodes[c%2].Treatments(t.Context(), u, nil)
				if err != nil {
					t.Error(err)
					return
				}
				for _, d := range ds {
					if d.Reason != experiment.ReasonAssigned {
						continue
					}
					first, seen := told.LoadOrStore([2]any{u, d.RunID}, d.Treatment)
					if !seen {
						enrolled.Add(1)
					} else if first != d.Treatment {
						t.Errorf("unit %v of %s was told %v, now %s", u, d.Experiment, first, d.Treatment)
					}
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(2, 0))
	for edits := 0; edits < 60 || enrolled.Load() < 200 && !t.Failed(); edits++ {
		split := 1 + rng.IntN(9999)
		weight := rng.IntN(3)
		// One gives slots up before the other takes them.
		for _, d := range []experiment.Definition{half("a", "page", 0, 1), half("b", "page", split, 10000), half("a", "page", 0, split)} {
			d.Treatments[1].Weight = weight
			if _, err := editor.ReviseExperiment(t.Context(), d, 0); err != nil {
				t.Error(err)
			}
		}
	}
	over.Store(true)
	wg.Wait()
	const claims = `SELECT count(*) FROM (SELECT unit_key FROM assignment GROUP BY unit_key HAVING count(*) > 1) AS twice`
	if got := count(t, pool, claims); got != 0 {
		t.Errorf("%d units are in two experiments of one layer", got)
	}
	if got := count(t, pool, "SELECT count(DISTINCT version) FROM assignment"); got < 5 {
		t.Errorf("units were enrolled under %d versions only: the test shows little", got)
	}
}

// gated is a DB whose work waits until the gate opens.
type gated struct {
	pgtest.DB
	gate <-chan struct{}
}

func (d gated) Do(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error {
	select {
	case <-d.gate:
		return d.DB.Do(ctx, fn)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d gated) Read(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error {
	return d.Do(ctx, fn)
}

// entering is a gated DB that tells when somebody waits at the gate.
type entering struct {
	gated
	entered chan<- struct{}
}

func (d entering) Do(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error {
	select {
	case d.entered <- struct{}{}:
	default:
	}
	return d.gated.Do(ctx, fn)
}

func (d entering) Read(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error {
	return d.Do(ctx, fn)
}

// A request gives up in time though the definitions are being loaded by somebody
// who has all the time in the world.
func TestDefinitions_deadline(t *testing.T) {
	t.Parallel()
	o := options(newDB(t))
	db, _ := o.DB.(pgtest.DB)
	gate, entered := make(chan struct{}), make(chan struct{}, 1)
	o.DB = entering{gated{db, gate}, entered}
	s := start(t, o)
	<-entered // Run loads the first definitions
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	answered := make(chan error, 1)
	go func() {
		_, err := s.Treatments(ctx, user(1), nil)
		answered <- err
	}()
	select {
	case err := <-answered:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Treatments() = %v, want DeadlineExceeded", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("Treatments() waits on, long after its deadline")
	}
	close(gate)
}

// counting is a DB that knows how much runs at a time.
type counting struct {
	gated
	running, most *atomic.Int64
}

func (d counting) Do(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error {
	n := d.running.Add(1)
	defer d.running.Add(-1)
	for most := d.most.Load(); n > most; most = d.most.Load() {
		if d.most.CompareAndSwap(most, n) {
			break
		}
	}
	return d.gated.Do(ctx, fn)
}

func (d counting) Read(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error {
	return d.Do(ctx, fn)
}

// However many import at once, they leave the connections to everybody else.
func TestImportAssignments_leavesConnections(t *testing.T) {
	t.Parallel()
	pool := newDB(t)
	s := start(t, options(pool))
	mustLayer(t, s, "page")
	mustRun(t, s, half("button", "page", 0, 10000))
	o := options(pool)
	var running, most atomic.Int64
	gate := make(chan struct{})
	o.DB = counting{gated{pgtest.DB{Pool: pool}, gate}, &running, &most}
	s, err := pgstore.New(o) // does not run, so that nothing else uses the database
	if err != nil {
		t.Fatal(err)
	}
	const senders, wait = 60, 16
	var stored, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			_, err := s.ImportAssignments(t.Context(), experiment.AssignmentImport{
				Experiment: "button", UnitType: "user",
				Rows: []experiment.ImportedAssignment{{Unit: user(i), Treatment: "green"}},
			})
			switch {
			case err == nil:
				stored.Add(1)
			case errors.Is(err, experiment.ErrOverloaded):
				if refused.Add(1) == senders-wait { // what cannot wait is refused while the database stands still
					close(gate)
				}
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most.Load() != 1 {
		t.Errorf("%d connections were in use at a time, want 1", most.Load())
	}
	if got := count(t, pool, "SELECT count(*) FROM assignment"); int64(got) != stored.Load() || refused.Load() != senders-wait {
		t.Errorf("%d stored, %d acknowledged, %d refused at once", got, stored.Load(), refused.Load())
	}
}

// While the database stands still requests wait, a bounded number of them; the
// others are refused at once. When it goes on, those that waited are answered.
func TestRecord_overload(t *testing.T) {
	t.Parallel()
	pool := newDB(t)
	gate := make(chan struct{})
	o := options(pool)
	o.DB, o.MaxQueue = gated{pgtest.DB{Pool: pool}, gate}, 1000
	s := start(t, o)
	const senders, each = 40, 100 // 1,000 events may wait while up to 1,000 are being flushed
	var refused, accepted atomic.Int64
	var wg sync.WaitGroup
	answered := make(chan struct{}, senders)
	for i := range senders {
		wg.Go(func() {
			events := make([]experiment.Event, each)
			for j := range events {
				events[j] = view(i*each+j, user(i))
			}
			_, err := s.Record(t.Context(), events)
			switch {
			case errors.Is(err, experiment.ErrOverloaded):
				refused.Add(1)
			case err == nil:
				accepted.Add(1)
			default:
				t.Error(err)
			}
			answered <- struct{}{}
		})
	}
	for range senders - 20 {
		<-answered // what cannot fit is refused while the gate is closed
	}
	if accepted.Load() != 0 {
		t.Error("an event was acknowledged while the database stood still")
	}
	close(gate)
	wg.Wait()
	if refused.Load()+accepted.Load() != senders || refused.Load() < senders-20 {
		t.Errorf("%d refused and %d accepted of %d", refused.Load(), accepted.Load(), senders)
	}
	if got := count(t, pool, "SELECT count(*) FROM event"); got != int(accepted.Load())*each {
		t.Errorf("%d events are stored, want %d", got, accepted.Load()*each)
	}
}

// A request gives up when its time is over, and one that nobody waits for is not
// carried out later.
func TestTreatments_deadline(t *testing.T) {
	t.Parallel()
	pool := newDB(t)
	setup := start(t, options(pool))
	mustLayer(t, setup, "page")
	mustRun(t, setup, half("button", "page", 0, 10000))
	gate := make(chan struct{})
	o := options(pool)
	o.DB = gated{pgtest.DB{Pool: pool}, gate}
	s := start(t, o)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Treatments(ctx, user(1), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Treatments() = %v, want DeadlineExceeded", err)
	}
	close(gate)
	if d := mustTreat(t, s, user(2), "button"); d.Reason != experiment.ReasonAssigned {
		t.Errorf("after the gate opened: %+v", d)
	}
	if got := count(t, pool, "SELECT count(*) FROM unit"); got != 1 {
		t.Errorf("%d units are stored, want 1", got)
	}
}
