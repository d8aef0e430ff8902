package httpapi

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/internal/problem"
)

func (s *server) listExperiments(w http.ResponseWriter, r *http.Request) error {
	var only experiment.State
	if text := r.URL.Query().Get("state"); text != "" {
		var err error
		if only, err = experiment.ParseState(text); err != nil {
			return err
		}
	}
	all, err := s.Experiments.Experiments(r.Context())
	if err != nil {
		return err
	}
	resp := experimentsJSON{Experiments: make([]experimentJSON, 0, len(all))}
	for _, e := range all {
		if only == "" || e.State == only {
			resp.Experiments = append(resp.Experiments, newExperimentJSON(e))
		}
	}
	return problem.WriteJSON(w, http.StatusOK, resp)
}

func (s *server) getExperiment(w http.ResponseWriter, r *http.Request) error {
	key, err := KeyParam(r)
	if err != nil {
		return err
	}
	e, err := s.Experiments.Experiment(r.Context(), key)
	if err != nil {
		return err
	}
	return writeExperiment(w, http.StatusOK, e)
}

// createExperiment answers 201, or 200 if the key has this very definition
// already: the answer to the first try may have been lost.
func (s *server) createExperiment(w http.ResponseWriter, r *http.Request) error {
	var req definitionJSON
	if err := problem.Decode(w, r, maxBody, &req); err != nil {
		return err
	}
	d, err := req.domain()
	if err != nil {
		return err
	}
	status := http.StatusCreated
	e, err := s.Experiments.CreateExperiment(r.Context(), d)
	if errors.Is(err, experiment.ErrExists) {
		status = http.StatusOK
		if e, err = s.Experiments.Experiment(r.Context(), d.Key); err == nil && !sameDefinition(e.Definition, d) {
			err = experiment.ErrExists
		}
	}
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/experiments/"+url.PathEscape(e.Key))
	return writeExperiment(w, status, e)
}

// reviseExperiment needs If-Match, so that nobody overwrites what they have not
// seen. A change that was made from that version already is answered again.
func (s *server) reviseExperiment(w http.ResponseWriter, r *http.Request) error {
	version, err := ifMatch(r)
	if err != nil {
		return err
	}
	if r.Header.Get("If-Match") == "" {
		return kindIfMatchMissing.problem("send the ETag of the version that you change", "")
	}
	d, err := s.decodeRevision(w, r)
	if err != nil {
		return err
	}
	e, err := s.Experiments.ReviseExperiment(r.Context(), d, version)
	if errors.Is(err, experiment.ErrConflict) {
		if e, err = s.Experiments.Experiment(r.Context(), d.Key); err == nil &&
			(e.Version != version+1 || !sameDefinition(e.Definition, d)) {
			err = experiment.ErrConflict
		}
	}
	if err != nil {
		return err
	}
	return writeExperiment(w, http.StatusOK, e)
}

func (s *server) decodeRevision(w http.ResponseWriter, r *http.Request) (experiment.Definition, error) {
	key, err := KeyParam(r)
	if err != nil {
		return experiment.Definition{}, err
	}
	var req definitionJSON
	if err := problem.Decode(w, r, maxBody, &req); err != nil {
		return experiment.Definition{}, err
	}
	if req.Key == "" {
		req.Key = key
	}
	if req.Key != key {
		return experiment.Definition{}, invalid("key", "must be %q as in the path", key)
	}
	return req.domain()
}

// step is a change of state that users ask for by name.
type step struct {
	from []experiment.State // empty: whatever the life cycle allows
	to   experiment.State
}

// Starting and resuming both lead to running; they are apart so that nobody
// starts a draft who believes that it was only paused.
func start() step {
	return step{from: []experiment.State{experiment.StateDraft}, to: experiment.StateRunning}
}

func resume() step {
	return step{from: []experiment.State{experiment.StatePaused}, to: experiment.StateRunning}
}
func pause() step   { return step{to: experiment.StatePaused} }
func stop() step    { return step{to: experiment.StateStopped} }
func archive() step { return step{to: experiment.StateArchived} }

// move takes an experiment one step further. An experiment that has taken the
// step already is answered as it is.
func (s *server) move(named func() step) func(http.ResponseWriter, *http.Request) error {
	step := named()
	return func(w http.ResponseWriter, r *http.Request) error {
		key, err := KeyParam(r)
		if err != nil {
			return err
		}
		version, err := ifMatch(r)
		if err != nil {
			return err
		}
		e, err := s.Experiments.Experiment(r.Context(), key)
		if err != nil {
			return err
		}
		if !step.taken(e, version) {
			if e, err = s.take(r, step, e, version); err != nil {
				return err
			}
		}
		return writeExperiment(w, http.StatusOK, e)
	}
}

// taken reports whether e is where the step leads, reached from version, if given,
// by nothing else than this step.
func (st step) taken(e experiment.Experiment, version int64) bool {
	return e.State == st.to && (version == 0 || version == e.Version || version == e.Version-1)
}

// take takes the step from e, or from what somebody faster made of it; perhaps
// that was this very request, sent twice.
func (s *server) take(r *http.Request, st step, e experiment.Experiment, version int64) (experiment.Experiment, error) {
	for {
		if version != 0 && version != e.Version {
			return e, experiment.ErrConflict
		}
		if len(st.from) > 0 && !slices.Contains(st.from, e.State) {
			return e, &experiment.TransitionError{From: e.State, To: st.to}
		}
		moved, err := s.Experiments.MoveExperiment(r.Context(), e.Key, st.to, e.Version)
		if !errors.Is(err, experiment.ErrConflict) {
			return moved, err
		}
		if e, err = s.Experiments.Experiment(r.Context(), e.Key); err != nil || st.taken(e, version) {
			return e, err
		}
	}
}

func writeExperiment(w http.ResponseWriter, status int, e experiment.Experiment) error {
	w.Header().Set("ETag", `"`+strconv.FormatInt(e.Version, 10)+`"`)
	return problem.WriteJSON(w, status, newExperimentJSON(e))
}

// ifMatch returns the version that If-Match names, 0 for none or "*". An entity
// tag that this API never gave out matches no version.
func ifMatch(r *http.Request) (int64, error) {
	tags := r.Header.Values("If-Match")
	if len(tags) == 0 || tags[0] == "*" && len(tags) == 1 {
		return 0, nil
	}
	tag, strong := strings.CutPrefix(tags[0], `"`)
	tag, closed := strings.CutSuffix(tag, `"`)
	if len(tags) > 1 || !strong || !closed || strings.Contains(tag, `"`) {
		return 0, kindBadIfMatch.problem(`send one strong entity tag as it was given, such as "3"`, "")
	}
	version, err := strconv.ParseInt(tag, 10, 64)
	if err != nil || version < 1 {
		return 0, experiment.ErrConflict
	}
	return version, nil
}
