package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/report"
	"github.com/xpd-platform/xpd/report/httpapi"
	"github.com/xpd-platform/xpd/stats"
)

// reports are known by the key of their experiment.
type reports map[string]report.Report

func (r reports) Report(_ context.Context, key string) (report.Report, error) {
	switch found, ok := r[key]; {
	case ok:
		return found, nil
	case key == "draft":
		return report.Report{}, fmt.Errorf("report: %w", &experiment.InvalidError{Field: "experiment", Reason: "has not run yet"})
	case strings.ContainsRune(key, 0):
		return report.Report{}, errors.New("PostgreSQL does not take this")
	case key == "slow":
		return report.Report{}, fmt.Errorf("report: %w", context.DeadlineExceeded)
	}
	return report.Report{}, experiment.ErrNotFound
}

func get(t *testing.T, path string) *httptest.ResponseRecorder {
	t.Helper()
	effect := stats.Effect{Estimate: stats.Number{Value: 1, Defined: true}, Interval: stats.Interval{High: 2, Defined: true}}
	full := report.Report{
		Experiment: "button", State: experiment.StateRunning, StartedAt: time.Unix(1, 0), GeneratedAt: time.Unix(2, 0),
		Treatments: []report.Treatment{{Treatment: "blue"}},
		Metrics: []report.Metric{{Metric: "m", Currency: "EUR", Problem: "p", Results: []report.Result{
			{Treatment: "blue", Comparison: &report.Comparison{Difference: effect, Lift: effect}},
		}}},
	}
	r := chi.NewRouter()
	logger := slog.New(slog.DiscardHandler)
	guard := access.New(access.Options{Logger: logger, Registry: prometheus.NewRegistry()})
	httpapi.Routes(reports{"button": full}, guard, logger)(r)
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w
}

func TestReport_status(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]int{
		"button": http.StatusOK, "draft": http.StatusUnprocessableEntity,
		"nothing": http.StatusNotFound, "slow": http.StatusServiceUnavailable,
		"%00": http.StatusNotFound, "%ff": http.StatusNotFound, "but%74on": http.StatusOK,
	} {
		if w := get(t, "/v1/experiments/"+key+"/report"); w.Code != want {
			t.Errorf("report on %s: %d %s, want %d", key, w.Code, w.Body, want)
		}
	}
}

// schema is the part of a JSON schema that the description uses.
type schema struct {
	Ref        string             `json:"$ref"`
	Type       any                `json:"type"`
	Required   []string           `json:"required"`
	Properties map[string]*schema `json:"properties"`
	Items      *schema            `json:"items"`
}

// TestOpenAPI checks a report that has everything against its description.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	var doc struct {
		Paths      map[string]any
		Components struct{ Schemas map[string]*schema }
	}
	if err := json.Unmarshal(httpapi.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	if _, ok := doc.Paths["/v1/experiments/{key}/report"]; !ok || len(doc.Paths) != 1 {
		t.Errorf("paths = %v, want that of the report", slices.Collect(maps.Keys(doc.Paths)))
	}
	var got any
	if err := json.Unmarshal(get(t, "/v1/experiments/button/report").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{"Report": true}
	var check func(path string, s *schema, v any)
	check = func(path string, s *schema, v any) {
		if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
			used[name] = true
			s = doc.Components.Schemas[name]
		}
		switch v := v.(type) {
		case map[string]any:
			names, described := slices.Sorted(maps.Keys(v)), slices.Sorted(maps.Keys(s.Properties))
			if !slices.Equal(names, described) {
				t.Errorf("%s has %v, described are %v", path, names, described)
				return
			}
			for name, inner := range v {
				check(path+"."+name, s.Properties[name], inner)
			}
		case []any:
			for _, inner := range v {
				check(path+"[]", s.Items, inner)
			}
		default:
			if want := fmt.Sprint(s.Type); !strings.Contains(want, typeName(v)) {
				t.Errorf("%s is %v, described as %s", path, v, want)
			}
		}
	}
	check("report", doc.Components.Schemas["Report"], got)
	if len(used) != len(doc.Components.Schemas) {
		t.Errorf("%d of %d schemas occur in a report", len(used), len(doc.Components.Schemas))
	}
}

func typeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case bool:
		return "boolean"
	case float64:
		if v == float64(int64(v)) {
			return "" // integer or number
		}
		return "number"
	}
	return "object"
}
