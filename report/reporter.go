package report

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/xpd-platform/xpd/experiment"
)

// DB runs work that only reads. It may run fn again if the first try was cut off.
type DB interface {
	Read(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error
}

// Experiments knows definitions. Experiment returns experiment.ErrNotFound.
type Experiments interface {
	Experiment(ctx context.Context, key string) (experiment.Experiment, error)
}

// DefaultTimeout bounds a report.
const DefaultTimeout = 30 * time.Second

// Bounds of the reports of one Reporter. Each keeps a connection, and a processor
// of the primary, busy for as long as it takes.
const (
	maxRunning = 2
	maxWaiting = 8
)

// Options configures a Reporter. DB, Experiments and Now are required.
type Options struct {
	DB          DB
	Experiments Experiments
	Now         func() time.Time
	Timeout     time.Duration // of one report, its wait for others included; 0: DefaultTimeout
}

// Reporter makes reports, few at a time. It is safe for concurrent use.
type Reporter struct {
	o        Options
	admitted chan struct{} // taken by each report that runs or waits
	running  chan struct{} // taken by each that runs
}

// New returns a Reporter.
func New(o Options) (*Reporter, error) {
	if o.DB == nil || o.Experiments == nil || o.Now == nil {
		return nil, errors.New("report: DB, Experiments and Now are required")
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	return &Reporter{o, make(chan struct{}, maxRunning+maxWaiting), make(chan struct{}, maxRunning)}, nil
}

// Report returns what the current run of an experiment has shown. It returns
// experiment.ErrNotFound, an *experiment.InvalidError if the experiment has not
// run yet, experiment.ErrOverloaded at once if too many wait, or an error that
// wraps context.DeadlineExceeded if it takes too long.
func (r *Reporter) Report(ctx context.Context, key string) (Report, error) {
	e, err := r.o.Experiments.Experiment(ctx, key)
	if err != nil {
		return Report{}, err
	}
	if e.Run == nil {
		return Report{}, &experiment.InvalidError{Field: "experiment", Reason: "has not run yet: start it to have something to report"}
	}
	out := Report{
		Experiment: e.Key, State: e.State, Version: e.Version, Run: e.Run.No, StartedAt: e.Run.StartedAt.UTC(),
		GeneratedAt: r.o.Now().UTC(), Alpha: alpha,
	}
	if err := r.read(ctx, e, &out); err != nil {
		return Report{}, fmt.Errorf("report on experiment %q: %w", key, err)
	}
	return out, nil
}

// read fills out when its turn has come.
func (r *Reporter) read(ctx context.Context, e experiment.Experiment, out *Report) error {
	select {
	case r.admitted <- struct{}{}:
		defer func() { <-r.admitted }()
	default:
		return experiment.ErrOverloaded
	}
	ctx, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	select {
	case r.running <- struct{}{}:
		defer func() { <-r.running }()
	case <-ctx.Done():
		return ctx.Err()
	}
	err := r.o.DB.Read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		oneMoment := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
		return pgx.BeginTxFunc(ctx, c, oneMoment, func(tx pgx.Tx) error { return r.fill(ctx, tx, e, out) })
	})
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == pgerrcode.QueryCanceled {
		err = fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	}
	return err
}

// limitsSQL lets the server end a query that the client no longer waits for, and
// gives its hash tables room: a report aggregates by unit.
const limitsSQL = `
SELECT set_config('statement_timeout', $1, true), set_config('work_mem', '64MB', true)`

// fill reads everything that out says about units. It may run again.
func (r *Reporter) fill(ctx context.Context, tx pgx.Tx, e experiment.Experiment, out *Report) error {
	timeout := strconv.FormatInt(r.o.Timeout.Milliseconds(), 10)
	if _, err := tx.Exec(ctx, limitsSQL, timeout); err != nil {
		return fmt.Errorf("limit the queries: %w", err)
	}
	counts, err := readCounts(ctx, tx, e.Run.ID)
	if err != nil {
		return err
	}
	weights, err := readWeights(ctx, tx, e.ID)
	if err != nil {
		return err
	}
	out.Treatments = countTreatments(e.Treatments, counts)
	if out.SRM, err = checkSplit(e.Treatments, counts, weights); err != nil {
		return err
	}
	metrics := e.Metrics
	if len(metrics) == 0 {
		metrics = defaultMetrics()
	}
	out.Metrics = make([]Metric, 0, len(metrics))
	for _, m := range metrics {
		result, err := measure(ctx, tx, e, m)
		if err != nil {
			return fmt.Errorf("metric %q: %w", m.Key, err)
		}
		out.Metrics = append(out.Metrics, result)
	}
	return nil
}

// measure reads a metric and compares the treatments by it. What the events
// themselves make impossible is a Problem of the metric, not an error.
func measure(ctx context.Context, tx pgx.Tx, e experiment.Experiment, m experiment.Metric) (Metric, error) {
	out := Metric{Metric: m.Key, Kind: m.Kind, Event: m.Event, Results: []Result{}}
	rows, err := readSums(ctx, tx, e.Run.ID, m)
	if err != nil {
		return out, err
	}
	found := make(map[int16]sums, len(rows))
	var low, high string // of all currencies
	for _, row := range rows {
		s, ok := row.sums()
		if !ok {
			out.Problem = "the values are too large to be added up"
			return out, nil
		}
		found[row.Treatment] = s
		if row.LowCurrency != nil && (low == "" || *row.LowCurrency < low) {
			low = *row.LowCurrency
		}
		if row.HighCurrency != nil {
			high = max(high, *row.HighCurrency)
		}
	}
	if low != high {
		out.Problem = fmt.Sprintf("sales in %s and %s cannot be added up", low, high)
		return out, nil
	}
	out.Currency = low
	out.Results, err = compare(m, e.Treatments, found)
	return out, err
}
