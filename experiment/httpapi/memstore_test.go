package httpapi_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/xpd-platform/xpd/experiment"
)

// memStore keeps everything in memory and behaves as the API's store must: it
// runs the real domain, and its changes are done wholly or not at all.
type memStore struct {
	now func() time.Time
	// before, if set, may refuse or hold up any call.
	before func(context.Context) error

	mu          sync.Mutex
	layers      map[string]experiment.Layer
	experiments map[string]experiment.Experiment
	assigned    map[experiment.Unit][]experiment.Assignment
	exposed     map[exposureKey]time.Time
	events      map[experiment.EventID]experiment.Event
	lastRun     int32
}

type exposureKey struct {
	unit experiment.Unit
	run  int32
}

func newMemStore(now func() time.Time) *memStore {
	return &memStore{
		now:         now,
		layers:      map[string]experiment.Layer{},
		experiments: map[string]experiment.Experiment{},
		assigned:    map[experiment.Unit][]experiment.Assignment{},
		exposed:     map[exposureKey]time.Time{},
		events:      map[experiment.EventID]experiment.Event{},
	}
}

func (m *memStore) enter(ctx context.Context) error {
	if m.before != nil {
		if err := m.before(ctx); err != nil {
			return err
		}
	}
	m.mu.Lock()
	return nil
}

func byKey[V any](in map[string]V) []V {
	out := make([]V, 0, len(in))
	for _, key := range slices.Sorted(maps.Keys(in)) {
		out = append(out, in[key])
	}
	return out
}

func salt(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return sum[:16]
}

func (m *memStore) CreateLayer(ctx context.Context, l experiment.Layer) (experiment.Layer, error) {
	if err := m.enter(ctx); err != nil {
		return l, err
	}
	defer m.mu.Unlock()
	if _, ok := m.layers[l.Key]; ok {
		return l, experiment.ErrExists
	}
	l.ID, l.Salt, l.CreatedAt = int32(len(m.layers)+1), salt("layer "+l.Key), m.now()
	m.layers[l.Key] = l
	return l, nil
}

func (m *memStore) Layer(ctx context.Context, key string) (experiment.Layer, error) {
	if err := m.enter(ctx); err != nil {
		return experiment.Layer{}, err
	}
	defer m.mu.Unlock()
	l, ok := m.layers[key]
	if !ok {
		return l, experiment.ErrNotFound
	}
	return l, nil
}

func (m *memStore) Layers(ctx context.Context) ([]experiment.Layer, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	return byKey(m.layers), nil
}

func (m *memStore) CreateExperiment(ctx context.Context, d experiment.Definition) (experiment.Experiment, error) {
	if err := m.enter(ctx); err != nil {
		return experiment.Experiment{}, err
	}
	defer m.mu.Unlock()
	e, err := experiment.New(d, m.now())
	if err != nil {
		return e, err
	}
	if _, ok := m.experiments[d.Key]; ok {
		return e, experiment.ErrExists
	}
	if _, ok := m.layers[d.Layer]; !ok {
		return e, &experiment.InvalidError{Field: "layer", Reason: "does not exist"}
	}
	if err := e.CheckSlots(byKey(m.experiments)); err != nil {
		return e, err
	}
	e.ID = int32(len(m.experiments) + 1)
	m.experiments[d.Key] = e
	return e, nil
}

func (m *memStore) Experiment(ctx context.Context, key string) (experiment.Experiment, error) {
	if err := m.enter(ctx); err != nil {
		return experiment.Experiment{}, err
	}
	defer m.mu.Unlock()
	return m.find(key, 0)
}

// find is called with the lock held.
func (m *memStore) find(key string, version int64) (experiment.Experiment, error) {
	e, ok := m.experiments[key]
	if !ok {
		return e, experiment.ErrNotFound
	}
	if version != 0 && e.Version != version {
		return e, experiment.ErrConflict
	}
	return e, nil
}

func (m *memStore) Experiments(ctx context.Context) ([]experiment.Experiment, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	return byKey(m.experiments), nil
}

func (m *memStore) ReviseExperiment(ctx context.Context, d experiment.Definition, version int64) (experiment.Experiment, error) {
	if err := m.enter(ctx); err != nil {
		return experiment.Experiment{}, err
	}
	defer m.mu.Unlock()
	e, err := m.find(d.Key, version)
	if err != nil {
		return e, err
	}
	if e, err = e.Revise(d, m.now()); err != nil {
		return e, err
	}
	if err := e.CheckSlots(byKey(m.experiments)); err != nil {
		return e, err
	}
	m.experiments[d.Key] = e
	return e, nil
}

func (m *memStore) MoveExperiment(ctx context.Context, key string, to experiment.State, version int64) (experiment.Experiment, error) {
	if err := m.enter(ctx); err != nil {
		return experiment.Experiment{}, err
	}
	defer m.mu.Unlock()
	e, err := m.find(key, version)
	if err != nil {
		return e, err
	}
	if err := e.MoveTo(to, m.now()); err != nil {
		return e, err
	}
	if to == experiment.StateRunning && e.Run == nil {
		m.lastRun++
		e.Run = &experiment.Run{ID: m.lastRun, No: 1, Salt: salt("run " + key), StartedAt: m.now()}
	}
	m.experiments[key] = e
	return e, nil
}

func (m *memStore) Treatments(ctx context.Context, u experiment.Unit, keys []string) ([]experiment.Decision, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	snap, err := experiment.NewSnapshot(1, byKey(m.layers), byKey(m.experiments))
	if err != nil {
		return nil, err
	}
	decisions, fresh := snap.Assign(u, m.assigned[u], keys, m.now())
	m.assigned[u] = append(m.assigned[u], fresh...)
	return decisions, nil
}

func (m *memStore) Expose(ctx context.Context, u experiment.Unit, reqs []experiment.ExposureRequest) ([]experiment.ExposureResult, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	out := make([]experiment.ExposureResult, len(reqs))
	for i, req := range reqs {
		out[i] = m.expose(u, req)
	}
	return out, nil
}

func (m *memStore) expose(u experiment.Unit, req experiment.ExposureRequest) experiment.ExposureResult {
	res := experiment.ExposureResult{Experiment: req.Experiment, Outcome: experiment.ExposureNotAssigned}
	e, ok := m.experiments[req.Experiment]
	switch {
	case !ok:
		res.Outcome = experiment.ExposureUnknownExperiment
		return res
	case e.Run == nil || !slices.ContainsFunc(m.assigned[u], func(a experiment.Assignment) bool { return a.RunID == e.Run.ID }):
		return res
	}
	key := exposureKey{u, e.Run.ID}
	res.At, res.Outcome = m.exposed[key], experiment.ExposureAlready
	if res.At.IsZero() {
		res.At, res.Outcome = req.At, experiment.ExposureConfirmed
		m.exposed[key] = req.At
	}
	return res
}

func (m *memStore) Record(ctx context.Context, events []experiment.Event) ([]experiment.EventResult, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	out := make([]experiment.EventResult, len(events))
	for i, e := range events {
		out[i] = experiment.EventResult{ID: e.ID, Outcome: experiment.EventAccepted}
		if _, ok := m.events[e.ID]; ok {
			out[i].Outcome = experiment.EventDuplicate
			continue
		}
		m.events[e.ID] = e
	}
	return out, nil
}

func (m *memStore) UnitHistory(ctx context.Context, u experiment.Unit) (experiment.History, error) {
	if err := m.enter(ctx); err != nil {
		return experiment.History{}, err
	}
	defer m.mu.Unlock()
	h := experiment.History{Unit: u}
	for _, a := range m.assigned[u] {
		for _, e := range m.experiments {
			if e.Run == nil || e.Run.ID != a.RunID {
				continue
			}
			arm := slices.IndexFunc(e.Treatments, func(t experiment.Treatment) bool { return t.No == a.Treatment })
			past := experiment.PastAssignment{
				Experiment: e.Key, Treatment: e.Treatments[arm].Key, Run: e.Run.No, Version: a.Version, AssignedAt: a.At,
			}
			if at, ok := m.exposed[exposureKey{u, a.RunID}]; ok {
				past.ExposedAt = &at
			}
			h.Assignments = append(h.Assignments, past)
		}
	}
	for _, e := range m.events {
		if e.Unit == u {
			h.Events = append(h.Events, e)
		}
	}
	slices.SortFunc(h.Events, func(a, b experiment.Event) int {
		return cmp.Or(b.OccurredAt.Compare(a.OccurredAt), cmp.Compare(a.ID.String(), b.ID.String()))
	})
	return h, nil
}
