package httpapi

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/internal/problem"
)

// routesOnly returns the API with imports but nothing behind it.
func routesOnly() http.Handler {
	logger := slog.New(slog.DiscardHandler)
	guard := access.New(access.Options{Logger: logger, Registry: prometheus.NewRegistry()})
	return New(Options{
		Metrics: http.NotFoundHandler(), Guard: guard, Logger: logger, Registry: prometheus.NewRegistry(),
		Extra: ImportRoutes(nil, guard, time.Now, logger), OpenAPI: []json.RawMessage{ImportOpenAPI()},
	})
}

type schema struct {
	Ref        string             `json:"$ref"`
	Type       any                `json:"type"`
	Format     string             `json:"format"`
	Enum       []string           `json:"enum"`
	Properties map[string]*schema `json:"properties"`
	Required   []string           `json:"required"`
	Items      *schema            `json:"items"`
	Closed     *bool              `json:"additionalProperties"`
}

type served struct {
	Paths      map[string]map[string]json.RawMessage
	Components struct {
		Schemas map[string]json.RawMessage
	}
}

func fetchOpenAPI(t *testing.T, h http.Handler) (doc served, text string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/openapi.json", nil))
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatalf("decode /openapi.json: %v", err)
	}
	return doc, w.Body.String()
}

func TestOpenAPI_matchesRoutes(t *testing.T) {
	t.Parallel()
	h := routesOnly()
	doc, text := fetchOpenAPI(t, h)

	var routed, described []string
	walk := func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		routed = append(routed, method+" "+route)
		return nil
	}
	routes, ok := h.(chi.Routes)
	if !ok {
		t.Fatalf("New() returned %T, want a chi.Routes", h)
	}
	if err := chi.Walk(routes, walk); err != nil {
		t.Fatal(err)
	}
	for path, methods := range doc.Paths {
		for method := range methods {
			described = append(described, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(routed)
	slices.Sort(described)
	if diff := cmp.Diff(routed, described); diff != "" {
		t.Errorf("routes and /openapi.json differ (-routed +described):\n%s", diff)
	}
	for part := range strings.SplitSeq(text, `"$ref":"#/components/schemas/`) {
		name, _, found := strings.Cut(part, `"`)
		if _, ok := doc.Components.Schemas[name]; found && !ok && name != "{" {
			t.Errorf("schema %q is used and not described", name)
		}
	}
}

// TestOpenAPI_matchesStructs compares each schema with the struct that is read or
// written, and the client's struct with it.
func TestOpenAPI_matchesStructs(t *testing.T) {
	t.Parallel()
	doc, _ := fetchOpenAPI(t, routesOnly())
	tests := map[string][]any{
		"Unit":               {unitJSON{}, client.Unit{}},
		"TreatmentsRequest":  {treatmentsRequest{}},
		"TreatmentsResponse": {treatmentsResponse{}},
		"Decision":           {decisionJSON{}, client.Treatment{}},
		"ExposuresRequest":   {exposuresRequest{}},
		"ExposuresResponse":  {exposuresResponse{}},
		"Exposure":           {exposureJSON{}, client.Exposure{}},
		"EventsRequest":      {eventsRequest{}},
		"Event":              {eventJSON{}, client.Event{}},
		"EventsResponse":     {eventsResponse{}},
		"EventResult":        {eventResultJSON{}, client.EventResult{}},
		"History":            {historyJSON{}, client.History{}},
		"Assignment":         {assignmentJSON{}, client.Assignment{}},
		"PastEvent":          {pastEventJSON{}},
		"LayerDefinition":    {layerRequest{}},
		"Layer":              {layerJSON{}, client.Layer{}},
		"Layers":             {layersJSON{}},
		"Slots":              {slotsJSON{}, client.Slots{}},
		"Arm":                {treatmentJSON{}, client.Arm{}},
		"Metric":             {metricJSON{}, client.Metric{}},
		"Definition":         {definitionJSON{}, client.Definition{}},
		"Run":                {runJSON{}, client.Run{}},
		"Experiment":         {experimentJSON{}, client.Experiment{}},
		"Experiments":        {experimentsJSON{}},
		"Problem":            {client.Problem{}},
		"Status":             {statusJSON{}},

		"ImportAssignmentsRequest": {importAssignmentsRequest{}, client.AssignmentImport{}},
		"ImportAssignment":         {importAssignmentRow{}, client.ImportedAssignment{}},
		"ImportEventsRequest":      {importEventsRequest{}, client.EventImport{}},
		"ImportEvent":              {importEventRow{}, client.ImportedEvent{}},
		"ImportResponse":           {importResponse{}, client.ImportResult{}},
		"ImportRejection":          {importRejection{}, client.RejectedImport{}},
	}
	without := []string{"Value"} // no struct
	for name, raw := range doc.Components.Schemas {
		structs, ok := tests[name]
		if !ok {
			if !slices.Contains(without, name) {
				t.Errorf("schema %s is compared with nothing", name)
			}
			continue
		}
		var s schema
		_ = json.Unmarshal(raw, &s) // what matters here fails below if it is not there
		for _, v := range structs {
			if diff := cmp.Diff(typesOf(s), fieldsOf(reflect.TypeOf(v))); diff != "" {
				t.Errorf("schema %s and %T differ (-schema +struct):\n%s", name, v, diff)
			}
		}
		for _, f := range s.Required {
			if s.Properties[f] == nil {
				t.Errorf("schema %s requires %s, which it does not have", name, f)
			}
		}
	}
	for name := range tests {
		if _, ok := doc.Components.Schemas[name]; !ok {
			t.Errorf("schema %s is missing", name)
		}
	}
}

// typesOf returns the JSON type of every property.
func typesOf(s schema) map[string]string {
	out := map[string]string{}
	for name, p := range s.Properties {
		switch {
		case p.Ref != "":
			out[name] = "object"
		default:
			out[name], _ = p.Type.(string)
		}
	}
	return out
}

// fieldsOf returns the JSON type of every field that encoding/json would write.
func fieldsOf(typ reflect.Type) map[string]string {
	out := map[string]string{}
	for f := range fields(typ) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		out[name] = jsonType(f.Type)
	}
	return out
}

func fields(typ reflect.Type) func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for _, f := range reflect.VisibleFields(typ) {
			if f.Tag.Get("json") != "" && !yield(f) {
				return
			}
		}
	}
}

func jsonType(typ reflect.Type) string {
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if typ == reflect.TypeFor[time.Time]() {
		return "string"
	}
	switch typ.Kind() { //nolint:exhaustive // the rest are objects
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64:
		return "integer"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		return "array"
	default:
		return "object"
	}
}

// TestOpenAPI_matchesWords checks the closed sets of words, in the document and in
// docs/api.md.
func TestOpenAPI_matchesWords(t *testing.T) {
	t.Parallel()
	doc, _ := fetchOpenAPI(t, routesOnly())
	page, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	problems := []string{
		problem.BadJSON().URI(), problem.UnknownField().URI(), problem.TooLarge().URI(),
		problem.MediaType().URI(), problem.Invalid().URI(), problem.Internal().URI(),
		access.Unauthorized().URI(), access.Forbidden().URI(), access.TooManyFailures().URI(),
	}
	for k := kindBadIfMatch; k < kindEnd; k++ {
		problems = append(problems, k.describe().URI())
	}
	tests := []struct {
		schema, property string
		want             []string
	}{
		{"Problem", "type", problems},
		{"Decision", "reason", words(
			experiment.ReasonAssigned, experiment.ReasonUnknownExperiment, experiment.ReasonWrongUnitType,
			experiment.ReasonDraft, experiment.ReasonPaused, experiment.ReasonStopped, experiment.ReasonArchived,
			experiment.ReasonNotStarted, experiment.ReasonEnded, experiment.ReasonLayerClaimed, experiment.ReasonTraffic)},
		{"Exposure", "result", words(
			experiment.ExposureConfirmed, experiment.ExposureAlready,
			experiment.ExposureNotAssigned, experiment.ExposureUnknownExperiment)},
		{"EventResult", "result", words(experiment.EventAccepted, experiment.EventDuplicate, eventRejected)},
		{"Experiment", "state", words(
			experiment.StateDraft, experiment.StateRunning, experiment.StatePaused,
			experiment.StateStopped, experiment.StateArchived)},
		{"Metric", "kind", words(experiment.MetricConversion, experiment.MetricMean, experiment.MetricSales)},
	}
	for _, tt := range tests {
		var s schema
		_ = json.Unmarshal(doc.Components.Schemas[tt.schema], &s) // what matters here fails below if it is not there
		p := s.Properties[tt.property]
		if p == nil {
			t.Errorf("schema %s has no %s", tt.schema, tt.property)
			continue
		}
		slices.Sort(p.Enum)
		slices.Sort(tt.want)
		if diff := cmp.Diff(tt.want, p.Enum); diff != "" {
			t.Errorf("%s.%s (-code +document):\n%s", tt.schema, tt.property, diff)
		}
		for _, word := range tt.want {
			if !strings.Contains(string(page), "`"+word+"`") {
				t.Errorf("docs/api.md does not explain `%s` of %s.%s", word, tt.schema, tt.property)
			}
		}
	}
	for path, methods := range doc.Paths {
		for method := range methods {
			if line := "`" + strings.ToUpper(method) + " " + path + "`"; !strings.HasPrefix(path, "/v1/import/") && !strings.Contains(string(page), line) {
				t.Errorf("docs/api.md does not list %s", line)
			}
		}
	}
}

func words[S ~string](in ...S) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = string(s)
	}
	return out
}

func TestImport_clientKnowsTheBounds(t *testing.T) {
	t.Parallel()
	if client.MaxImportRows != maxImportRows || client.MaxImportBytes != maxBatchBody {
		t.Errorf("the client sends up to %d rows and %d bytes, the service takes %d and %d",
			client.MaxImportRows, client.MaxImportBytes, maxImportRows, maxBatchBody)
	}
}

func TestMergeOpenAPI_refusesTwoDescriptions(t *testing.T) {
	t.Parallel()
	_, err := mergeOpenAPI([]json.RawMessage{json.RawMessage(`{"paths":{"/healthz":{}}}`)})
	if err == nil || !strings.Contains(err.Error(), "/healthz") {
		t.Errorf("mergeOpenAPI() = %v, want an error that names /healthz", err)
	}
}
