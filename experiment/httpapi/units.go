package httpapi

import (
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/internal/problem"
)

const (
	maxKeys  = 1000            // experiments named in one request
	maxAhead = 5 * time.Minute // how far the clock of a client may be ahead
)

type unitJSON struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

// domain returns an *experiment.InvalidError with field unit.type or unit.id.
func (u unitJSON) domain() (experiment.Unit, error) {
	// What a JSON decoder makes of half a surrogate pair. Two ids that were broken
	// on their way must not become one unit.
	if strings.ContainsRune(u.ID, utf8.RuneError) {
		return experiment.Unit{}, invalid("unit.id", "must not hold U+FFFD, the mark of a broken character")
	}
	return experiment.ParseUnit(u.Type, u.ID)
}

type treatmentsRequest struct {
	Unit        unitJSON `json:"unit"`
	Experiments []string `json:"experiments"` // absent: all that apply
}

type treatmentsResponse struct {
	Unit       unitJSON       `json:"unit"`
	Treatments []decisionJSON `json:"treatments"`
}

type decisionJSON struct {
	Experiment string                      `json:"experiment"`
	Treatment  string                      `json:"treatment,omitempty"`
	Values     map[string]experiment.Value `json:"values,omitempty"`
	Reason     experiment.Reason           `json:"reason"`
	Run        int                         `json:"run,omitempty"`
	Version    int64                       `json:"version,omitempty"`
}

func (s *server) treatments(w http.ResponseWriter, r *http.Request) error {
	var req treatmentsRequest
	if err := problem.Decode(w, r, maxBody, &req); err != nil {
		return err
	}
	unit, err := req.Unit.domain()
	if err != nil {
		return err
	}
	if len(req.Experiments) > maxKeys {
		return invalid("experiments", "must be at most %d", maxKeys)
	}
	decisions, err := s.Assigner.Treatments(r.Context(), unit, req.Experiments)
	if err != nil {
		return err
	}
	resp := treatmentsResponse{Unit: req.Unit, Treatments: make([]decisionJSON, len(decisions))}
	for i, d := range decisions {
		resp.Treatments[i] = decisionJSON{
			Experiment: d.Experiment, Treatment: d.Treatment, Values: d.Values,
			Reason: d.Reason, Run: d.Run, Version: d.Version,
		}
	}
	return problem.WriteJSON(w, http.StatusOK, resp)
}

type exposuresRequest struct {
	Unit        unitJSON `json:"unit"`
	Experiments []string `json:"experiments"`
	ExposedAt   *string  `json:"exposed_at"` // absent: now
}

type exposuresResponse struct {
	Exposures []exposureJSON `json:"exposures"`
}

type exposureJSON struct {
	Experiment string                     `json:"experiment"`
	Result     experiment.ExposureOutcome `json:"result"`
	ExposedAt  *time.Time                 `json:"exposed_at,omitempty"`
}

func (s *server) expose(w http.ResponseWriter, r *http.Request) error {
	var req exposuresRequest
	if err := problem.Decode(w, r, maxBody, &req); err != nil {
		return err
	}
	unit, err := req.Unit.domain()
	if err != nil {
		return err
	}
	exposures, err := req.exposures(s.Now())
	if err != nil {
		return err
	}
	results, err := s.Recorder.Expose(r.Context(), unit, exposures)
	if err != nil {
		return err
	}
	resp := exposuresResponse{Exposures: make([]exposureJSON, len(results))}
	for i, res := range results {
		resp.Exposures[i] = exposureJSON{
			Experiment: res.Experiment, Result: res.Outcome, ExposedAt: utcOrNil(res.At),
		}
	}
	return problem.WriteJSON(w, http.StatusOK, resp)
}

// exposures lists every experiment that the request names, once.
func (req exposuresRequest) exposures(now time.Time) ([]experiment.ExposureRequest, error) {
	if n := len(req.Experiments); n == 0 || n > maxKeys {
		return nil, invalid("experiments", "must be 1 to %d", maxKeys)
	}
	at := now
	if req.ExposedAt != nil {
		var err error
		if at, err = parseTime("exposed_at", *req.ExposedAt); err != nil {
			return nil, err
		}
		if at.After(now.Add(maxAhead)) {
			return nil, invalid("exposed_at", "is more than %s in the future", maxAhead)
		}
	}
	out := make([]experiment.ExposureRequest, 0, len(req.Experiments))
	seen := make(map[string]bool, len(req.Experiments))
	for _, key := range req.Experiments {
		if !seen[key] {
			seen[key] = true
			out = append(out, experiment.ExposureRequest{Experiment: key, At: at})
		}
	}
	return out, nil
}

type historyJSON struct {
	Unit        unitJSON         `json:"unit"`
	Assignments []assignmentJSON `json:"assignments"`
	Events      []pastEventJSON  `json:"events"`
	MoreEvents  bool             `json:"more_events"`
}

type assignmentJSON struct {
	Experiment string     `json:"experiment"`
	Treatment  string     `json:"treatment"`
	Run        int        `json:"run"`
	Version    int64      `json:"version"`
	AssignedAt time.Time  `json:"assigned_at"`
	ExposedAt  *time.Time `json:"exposed_at,omitempty"`
}

func (s *server) history(w http.ResponseWriter, r *http.Request) error {
	unitType, err := pathParam(r, "type")
	if err != nil {
		return err
	}
	id, err := pathParam(r, "id")
	if err != nil {
		return err
	}
	raw := unitJSON{Type: unitType, ID: id}
	unit, err := raw.domain()
	if err != nil {
		return err
	}
	h, err := s.Recorder.UnitHistory(r.Context(), unit)
	if err != nil {
		return err
	}
	resp := historyJSON{
		Unit: raw, MoreEvents: h.MoreEvents,
		Assignments: make([]assignmentJSON, len(h.Assignments)),
		Events:      make([]pastEventJSON, len(h.Events)),
	}
	for i, a := range h.Assignments {
		resp.Assignments[i] = assignmentJSON(a)
		resp.Assignments[i].AssignedAt = a.AssignedAt.UTC()
		if a.ExposedAt != nil {
			resp.Assignments[i].ExposedAt = utcOrNil(*a.ExposedAt)
		}
	}
	for i, e := range h.Events {
		resp.Events[i] = newPastEvent(e)
	}
	return problem.WriteJSON(w, http.StatusOK, resp)
}

// pathParam returns the value of a path parameter. chi leaves it escaped if the
// path has escapes that matter, such as a slash inside an id.
func pathParam(r *http.Request, name string) (string, error) {
	value := chi.URLParam(r, name)
	if r.URL.RawPath == "" {
		return value, nil
	}
	plain, err := url.PathUnescape(value)
	if err != nil {
		return "", invalid(name, "is not well escaped")
	}
	return plain, nil
}

// KeyParam returns the parameter key of the path, for routes here and in
// Options.Extra. What PostgreSQL could not even compare is the key of nothing: an
// experiment.ErrNotFound.
func KeyParam(r *http.Request) (string, error) {
	key, err := pathParam(r, "key")
	if err != nil {
		return "", err
	}
	if !utf8.ValidString(key) || strings.ContainsRune(key, 0) {
		return "", experiment.ErrNotFound
	}
	return key, nil
}

// parseTime reads a time with its offset. Other years than these have no place
// in an experiment, and some no JSON form.
func parseTime(field, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, invalid(field, "must be a time such as 2026-01-31T15:04:05Z")
	}
	t = t.UTC()
	if t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}, invalid(field, "must be in the years 1970 to 9999")
	}
	return t, nil
}

func utcOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
