package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/experiment/httpapi"
)

func unmarshal(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("decode %q: %v", text, err)
	}
}

func button() client.Definition {
	arm := func(key, color string, control bool) client.Arm {
		return client.Arm{Key: key, Control: control, Weight: 1, Values: map[string]experiment.Value{
			"button": experiment.StringValue(color), "columns": experiment.IntValue(4),
			"ratio": experiment.FloatValue(2), "on": experiment.BoolValue(true),
		}}
	}
	end := clock().Add(24 * time.Hour)
	return client.Definition{
		Key: "button", Layer: "checkout", Description: "Does green sell?",
		Slots:      []client.Slots{{From: 0, To: 10_000}},
		Treatments: []client.Arm{arm("blue", "blue", true), arm("green", "green", false)},
		End:        &end,
		Metrics:    []client.Metric{{Key: "sales", Kind: experiment.MetricSales, Event: "purchase"}},
	}
}

// TestClient_wholeLife goes from a new layer to the history of a unit with the
// typed client, which so proves that both sides speak the same language.
func TestClient_wholeLife(t *testing.T) {
	t.Parallel()
	a, ctx := newAPI(t), t.Context()
	c := a.client
	layer, err := c.CreateLayer(ctx, "checkout", "user")
	if want := (client.Layer{Key: "checkout", UnitType: "user", CreatedAt: clock()}); err != nil || layer != want {
		t.Fatalf("CreateLayer() = %+v, %v, want %+v", layer, err, want)
	}
	e, err := c.CreateExperiment(ctx, button())
	if err != nil {
		t.Fatal(err)
	}
	want := client.Experiment{
		Definition: button(), State: experiment.StateDraft, Version: 1, CreatedAt: clock(), UpdatedAt: clock(),
	}
	values := cmp.Comparer(func(a, b experiment.Value) bool { return a.Equal(b) })
	if diff := cmp.Diff(want, e, values); diff != "" {
		t.Fatalf("CreateExperiment() (-want +got):\n%s", diff)
	}
	if e, err = c.MoveExperiment(ctx, "button", client.Start, e.Version); err != nil || e.State != experiment.StateRunning || e.Run == nil {
		t.Fatalf("MoveExperiment(start) = %+v, %v", e, err)
	}

	for _, id := range []string{"u1", "a/b", "50% off?", "…", ".", "a b+c", "%2F", "#"} {
		checkUnit(t, c, client.Unit{Type: "user", ID: id})
	}

	d := button()
	d.Treatments[0].Weight = 0
	if e, err = c.ReviseExperiment(ctx, d, e.Version); err != nil || e.Version != 3 || e.Treatments[0].Weight != 0 {
		t.Fatalf("ReviseExperiment() = %+v, %v", e, err)
	}
	running, err := c.Experiments(ctx, experiment.StateRunning)
	if err != nil || len(running) != 1 || running[0].Key != "button" {
		t.Errorf("Experiments(running) = %+v, %v", running, err)
	}
	if drafts, err := c.Experiments(ctx, experiment.StateDraft); err != nil || len(drafts) != 0 {
		t.Errorf("Experiments(draft) = %+v, %v, want none", drafts, err)
	}
	_, err = c.ReviseExperiment(ctx, button(), 1)
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Type != "/problems/stale-etag" || p.Status != 412 {
		t.Errorf("ReviseExperiment() from an old version = %v, want a stale-etag problem", err)
	}
}

func checkUnit(t *testing.T, c *client.Client, u client.Unit) {
	t.Helper()
	ctx := t.Context()
	all, err := c.Treatments(ctx, u)
	if err != nil || len(all) != 1 || all[0].Reason != experiment.ReasonAssigned || len(all[0].Values) != 4 {
		t.Fatalf("Treatments(%q) = %+v, %v", u.ID, all, err)
	}
	named, err := c.Treatments(ctx, u, "nope", "button", "nope")
	if err != nil || len(named) != 2 || named[0].Reason != experiment.ReasonUnknownExperiment || named[0].Values != nil ||
		named[1].Treatment != all[0].Treatment {
		t.Fatalf("Treatments(%q, named) = %+v, %v, want nope once and the same treatment", u.ID, named, err)
	}
	if v := all[0].Values["columns"]; !v.Equal(experiment.IntValue(4)) {
		t.Errorf("columns = %#v, want the integer 4", v)
	}
	seen := clock().Add(-time.Minute)
	exposures, err := c.Expose(ctx, u, seen, "button", "nope", "button")
	if err != nil || len(exposures) != 2 || exposures[0].Result != experiment.ExposureConfirmed ||
		exposures[1].Result != experiment.ExposureUnknownExperiment || exposures[1].ExposedAt != nil {
		t.Fatalf("Expose(%q) = %+v, %v", u.ID, exposures, err)
	}
	exposures, err = c.Expose(ctx, u, time.Time{}, "button")
	if err != nil || exposures[0].Result != experiment.ExposureAlready || !exposures[0].ExposedAt.Equal(seen) {
		t.Fatalf("second Expose(%q) = %+v, %v, want the first time", u.ID, exposures, err)
	}
	total := int64(1999)
	sum := experiment.Unit(u).Key()
	bought := client.Event{
		ID: experiment.EventID(sum).String(), Unit: u, Type: "purchase", OccurredAt: clock(),
		ItemsTotal: &total, Currency: "EUR",
	}
	results, err := c.Record(ctx, []client.Event{bought})
	if want := []client.EventResult{{ID: bought.ID, Result: experiment.EventAccepted}}; err != nil || !cmp.Equal(results, want) {
		t.Fatalf("Record(%q) = %+v, %v, want %+v", u.ID, results, err, want)
	}
	bought.Unit = client.Unit{}
	want := client.History{
		Unit: u,
		Assignments: []client.Assignment{{
			Experiment: "button", Treatment: all[0].Treatment, Run: 1, Version: 2, AssignedAt: clock(), ExposedAt: &seen,
		}},
		Events: []client.Event{bought},
	}
	got, err := c.UnitHistory(ctx, u)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("UnitHistory(%q) (-want +got):\n%s", u.ID, diff)
	}
}

// TestRepeats sends every change twice, as a client does that lost the answer.
func TestRepeats(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	twice := func(first, second int, method, path, body string, header ...string) {
		t.Helper()
		one := a.must(t, first, method, path, body, header...)
		two := a.must(t, second, method, path, body, header...)
		if one.body != two.body || one.Header.Get("ETag") != two.Header.Get("ETag") {
			t.Errorf("%s %s differs when repeated:\n%s%s", method, path, one.body, two.body)
		}
	}
	twice(201, 200, "POST", "/v1/layers", `{"key":"checkout","unit_type":"user"}`)
	twice(201, 200, "POST", "/v1/experiments", buttonJSON)
	twice(200, 200, "POST", "/v1/experiments/button/start", "", "If-Match", `"1"`)
	twice(200, 200, "POST", "/v1/experiments/button/pause", "")
	twice(200, 200, "POST", "/v1/experiments/button/resume", "", "If-Match", `"3"`)
	revised := strings.Replace(buttonJSON, `"to":5000`, `"to":6000`, 1)
	twice(200, 200, "PUT", "/v1/experiments/button", revised, "If-Match", `"4"`)
	twice(200, 200, "PUT", "/v1/experiments/button", revised[:1]+revised[len(`{"key":"button",`):], "If-Match", `"5"`)
	twice(200, 200, "POST", "/v1/experiments/button/stop", "", "If-Match", "*")
	twice(200, 200, "POST", "/v1/experiments/button/archive", "")
	twice(200, 200, "POST", "/v1/events", `{"events":[7]}`)

	// What was asked for is there, but it took another way there.
	a.must(t, 412, "PUT", "/v1/experiments/button", revised, "If-Match", `"1"`)
	a.must(t, 412, "POST", "/v1/experiments/button/archive", "", "If-Match", `"1"`)

	got := a.must(t, 200, "GET", "/v1/experiments/button", "")
	if tag := got.Header.Get("ETag"); tag != `"8"` {
		t.Errorf("ETag after seven changes = %s, want \"8\"", tag)
	}
}

// TestRepeats_atOnce sends every change many times at once, as a client does whose
// first try is still on its way at another node.
func TestRepeats_atOnce(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.must(t, 201, "POST", "/v1/layers", `{"key":"checkout","unit_type":"user"}`)
	for _, change := range []struct{ method, path, body, tag string }{
		{"POST", "/v1/experiments", buttonJSON, ""},
		{"POST", "/v1/experiments/button/start", "", ""},
		{"PUT", "/v1/experiments/button", strings.Replace(buttonJSON, `"to":5000`, `"to":6000`, 1), `"2"`},
		{"POST", "/v1/experiments/button/pause", "", `"3"`},
	} {
		answers := make([]answer, 8)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() {
				var header []string
				if change.tag != "" {
					header = []string{"If-Match", change.tag}
				}
				answers[i] = a.send(t, change.method, change.path, change.body, header...)
			})
		}
		wg.Wait()
		for _, got := range answers {
			if got.StatusCode > 201 || got.body != answers[0].body {
				t.Errorf("%s %s = %d %s, want one answer for all: %s", change.method, change.path, got.StatusCode, got.body, answers[0].body)
			}
		}
	}
}

// meetingStore lets changes of state through only once all of them have arrived.
type meetingStore struct {
	*memStore
	awaited *sync.WaitGroup
}

func (m meetingStore) MoveExperiment(ctx context.Context, key string, to experiment.State, version int64) (experiment.Experiment, error) {
	m.awaited.Done()
	m.awaited.Wait()
	return m.memStore.MoveExperiment(ctx, key, to, version)
}

// TestRepeats_overtaken has two requests find the same draft and start it.
func TestRepeats_overtaken(t *testing.T) {
	t.Parallel()
	var awaited sync.WaitGroup
	awaited.Add(2)
	a := newAPI(t, func(o *httpapi.Options) {
		store, _ := o.Experiments.(*memStore)
		o.Experiments = meetingStore{store, &awaited}
	})
	a.must(t, 201, "POST", "/v1/layers", `{"key":"checkout","unit_type":"user"}`)
	a.must(t, 201, "POST", "/v1/experiments", buttonJSON)
	answers := make([]answer, 2)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = a.send(t, "POST", "/v1/experiments/button/start", "", "If-Match", `"1"`) })
	}
	wg.Wait()
	for _, got := range answers {
		if got.StatusCode != http.StatusOK || got.Header.Get("ETag") != `"2"` {
			t.Errorf("start = %d %s, want 200 and version 2", got.StatusCode, got.body)
		}
	}
}

// overtakenStore has somebody else revise an experiment just before each of the
// first changes of its state.
type overtakenStore struct {
	*memStore
	left *atomic.Int64
}

func (o overtakenStore) MoveExperiment(ctx context.Context, key string, to experiment.State, version int64) (experiment.Experiment, error) {
	if o.left.Add(-1) >= 0 {
		e, err := o.Experiment(ctx, key)
		if err != nil {
			return e, err
		}
		if _, err := o.ReviseExperiment(ctx, e.Definition, e.Version); err != nil {
			return e, err
		}
	}
	return o.memStore.MoveExperiment(ctx, key, to, version)
}

// A step that names no version is taken whatever else happens to the experiment.
func TestStep_overtaken(t *testing.T) {
	t.Parallel()
	var left atomic.Int64
	a := newAPI(t, func(o *httpapi.Options) {
		store, _ := o.Experiments.(*memStore)
		o.Experiments = overtakenStore{store, &left}
	})
	a.must(t, 201, "POST", "/v1/layers", `{"key":"checkout","unit_type":"user"}`)
	a.must(t, 201, "POST", "/v1/experiments", buttonJSON)
	left.Store(3)
	if got := a.must(t, 200, "POST", "/v1/experiments/button/start", ""); got.Header.Get("ETag") != `"5"` {
		t.Errorf("ETag after three revisions and the start = %s, want 5", got.Header.Get("ETag"))
	}
	left.Store(1)
	a.must(t, 200, "POST", "/v1/experiments/button/pause", "", "If-Match", "*")
	left.Store(1)
	a.must(t, 412, "POST", "/v1/experiments/button/resume", "", "If-Match", `"7"`)
}

func TestCreated_says_where(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	layer := a.must(t, 201, "POST", "/v1/layers", `{"key":"checkout","unit_type":"user"}`)
	e := a.must(t, 201, "POST", "/v1/experiments", buttonJSON)
	for _, got := range []answer{layer, e} {
		path := got.Header.Get("Location")
		if again := a.must(t, 200, "GET", path, ""); again.body != got.body {
			t.Errorf("GET %s = %s, want what was created: %s", path, again.body, got.body)
		}
	}
}

// TestTrouble breaks the store in the ways in which it may break.
func TestTrouble(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		before func(context.Context) error
		status int
		kind   string
		logged int
	}{
		{"overloaded", func(context.Context) error { return fmt.Errorf("queue: %w", experiment.ErrOverloaded) }, 503, "overloaded", 0},
		{"no primary in time", func(ctx context.Context) error { <-ctx.Done(); return fmt.Errorf("wait: %w", ctx.Err()) }, 503, "unavailable", 0},
		{"something else", func(context.Context) error { return errors.New("secret table is missing") }, 500, "internal", 1},
		{"a panic", func(context.Context) error { panic("secret index out of range") }, 500, "internal", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, func(o *httpapi.Options) { o.Timeout = 20 * time.Millisecond })
			a.store.before = tt.before
			got := a.send(t, "POST", "/v1/treatments", `{"unit":{"type":"user","id":"u1"}}`)
			p := problemOf(t, got)
			if got.StatusCode != tt.status || p.Type != "/problems/"+tt.kind {
				t.Errorf("got %d %s, want %d %s", got.StatusCode, p.Type, tt.status, tt.kind)
			}
			if retry := got.Header.Get("Retry-After"); (retry == "1") != (tt.status == 503) {
				t.Errorf("Retry-After = %q with status %d", retry, tt.status)
			}
			if strings.Contains(got.body, "secret") {
				t.Errorf("the answer shows the cause: %s", got.body)
			}
			if n := strings.Count(a.log.String(), "path=/v1/treatments"); n != tt.logged {
				t.Errorf("logged %d times, want %d:\n%s", n, tt.logged, a.log)
			}
		})
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	a := newAPI(t, func(o *httpapi.Options) {
		o.Ready = func() error {
			if down.Load() {
				return errors.New("definitions are not loaded yet")
			}
			return nil
		}
	})
	a.must(t, 200, "GET", "/readyz", "")
	a.must(t, 200, "GET", "/openapi.json", "")
	for _, path := range []string{"/healthz", "/readyz", "/v1/layers"} {
		if got := a.must(t, 200, "HEAD", path, ""); got.body != "" || got.ContentLength <= 0 {
			t.Errorf("HEAD %s = %v %q, want the header of GET alone", path, got.Header, got.body)
		}
	}
	a.must(t, 405, "HEAD", "/v1/treatments", "")
	down.Store(true)
	a.must(t, 200, "GET", "/healthz", "")
	got := a.must(t, 503, "GET", "/readyz", "")
	if p := problemOf(t, got); p.Detail != "definitions are not loaded yet" {
		t.Errorf("detail = %q, want the reason", p.Detail)
	}
	if retry := got.Header.Get("Retry-After"); retry != "1" {
		t.Errorf("Retry-After = %q, want 1", retry)
	}
	if logged := a.log.String(); logged != "" {
		t.Errorf("probes were logged:\n%s", logged)
	}
	if err := a.client.Ping(t.Context()); err != nil {
		t.Errorf("Ping() = %v", err)
	}
}

// TestMetrics checks that requests are counted under few names, whatever comes.
func TestMetrics(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(o *httpapi.Options) {
		o.Extra = func(r chi.Router) {
			r.Get("/v1/extra/{name}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
		}
	})
	a.send(t, "GET", "/v1/units/user/somebody", "")
	a.send(t, "GET", "/nowhere/"+strconv.Itoa(12345), "")
	a.send(t, "BREW", "/v1/layers", "")
	a.send(t, "DELETE", "/v1/experiments/button", "")
	a.send(t, "DELETE", "/v1/extra/x", "")
	a.send(t, "GET", "/v1/extra/x", "")
	text := a.must(t, 200, "GET", "/metrics", "").body
	for _, want := range []string{
		`xpd_http_request_duration_seconds_bucket{code="200",method="GET",route="/v1/units/{type}/{id}",le="0.01"}`,
		`xpd_http_request_duration_seconds_count{code="404",method="GET",route="none"} 1`,
		`xpd_http_request_duration_seconds_count{code="405",method="other",route="none"} 1`,
		`xpd_http_request_duration_seconds_count{code="405",method="DELETE",route="none"} 2`,
		`xpd_http_request_duration_seconds_count{code="418",method="GET",route="/v1/extra/{name}"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	for _, unwanted := range []string{"somebody", "12345", "BREW"} {
		if strings.Contains(text, unwanted) {
			t.Errorf("metrics hold %q", unwanted)
		}
	}
}

// countingListener counts the writes on the connections that it accepts.
type countingListener struct {
	net.Listener
	writes *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countingConn{c, l.writes}, err
}

type countingConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countingConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// TestAnswer_isOneWrite checks that no answer leaves in two packets, the second
// of which would wait for the acknowledgement of the first.
func TestAnswer_isOneWrite(t *testing.T) {
	t.Parallel()
	store := newMemStore(clock)
	var writes atomic.Int64
	srv := httptest.NewUnstartedServer(httpapi.New(httpapi.Options{
		Assigner: store, Recorder: store, Layers: store, Experiments: store,
		Ready: func() error { return nil }, Metrics: http.NotFoundHandler(), Guard: openGuard(),
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	}))
	srv.Listener = countingListener{srv.Listener, &writes}
	srv.Start()
	t.Cleanup(srv.Close)
	a := &api{url: srv.URL, store: store}
	a.must(t, 201, "POST", "/v1/layers", `{"key":"checkout","unit_type":"user"}`)
	a.must(t, 200, "POST", "/v1/treatments", `{"unit":{"type":"user","id":"u1"}}`)
	a.must(t, 404, "GET", "/v1/experiments/nope", "")
	if got := writes.Load(); got != 3 {
		t.Errorf("3 answers took %d writes", got)
	}
}
