package httpapi_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/experiment/httpapi"
	"github.com/xpd-platform/xpd/internal/access"
)

func clock() time.Time { return time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC) }

// api is a served API over a memStore.
type api struct {
	url    string
	store  *memStore
	client *client.Client
	log    *logBuffer
}

// logBuffer holds what was logged, by several goroutines.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newAPI(t *testing.T, change ...func(*httpapi.Options)) *api {
	t.Helper()
	a := &api{store: newMemStore(clock), log: &logBuffer{}}
	reg := prometheus.NewRegistry()
	o := httpapi.Options{
		Assigner: a.store, Recorder: a.store, Layers: a.store, Experiments: a.store,
		Ready:    func() error { return nil },
		Metrics:  promhttp.HandlerFor(reg, promhttp.HandlerOpts{}),
		Logger:   slog.New(slog.NewTextHandler(a.log, nil)),
		Registry: reg,
		Guard:    openGuard(),
		Now:      clock,
	}
	for _, f := range change {
		f(&o)
	}
	srv := httptest.NewServer(httpapi.New(o))
	t.Cleanup(srv.Close)
	a.url = srv.URL
	var err error
	if a.client, err = client.New([]string{srv.URL}, srv.Client()); err != nil {
		t.Fatal(err)
	}
	return a
}

// openGuard asks nobody for a token.
func openGuard() *access.Guard {
	return access.New(access.Options{Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
}

// answer is a response whose body has been read.
type answer struct {
	*http.Response
	body string
}

// send sends a request; header is a list of names and values. A body goes as
// JSON unless header says otherwise.
func (a *api) send(t *testing.T, method, path, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, a.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if path != "/metrics" && method != http.MethodHead && resp.ContentLength != int64(len(text)) {
		t.Errorf("%s %s: Content-Length = %d, want %d", method, path, resp.ContentLength, len(text))
	}
	return answer{resp, string(text)}
}

// must fails the test unless the answer has the wanted status.
func (a *api) must(t *testing.T, want int, method, path, body string, header ...string) answer {
	t.Helper()
	got := a.send(t, method, path, body, header...)
	if got.StatusCode != want {
		t.Fatalf("%s %s = %d %s, want %d", method, path, got.StatusCode, got.body, want)
	}
	return got
}

const (
	buttonJSON = `{"key":"button","layer":"checkout","slots":[{"from":0,"to":5000}],"treatments":[
		{"key":"blue","control":true,"weight":1,"values":{"button":"blue","columns":4}},
		{"key":"green","weight":1,"values":{"button":"green","columns":4}}],
		"metrics":[{"key":"bought","kind":"conversion","event":"purchase"}]}`
	cartJSON = `{"key":"cart","layer":"checkout","slots":[{"from":5000,"to":6000}],"treatments":[
		{"key":"old","control":true,"weight":3},{"key":"new","weight":1}]}`
	oldJSON = `{"key":"old","layer":"checkout","slots":[],"treatments":[{"key":"a","control":true,"weight":1}]}`
)

// sample sets up a layer with a running, a draft and a stopped experiment, and a
// unit that is in the running one, was exposed and bought something.
func sample(t *testing.T, a *api) {
	t.Helper()
	a.must(t, 201, "POST", "/v1/layers", `{"key":"checkout","unit_type":"user"}`)
	for _, d := range []string{buttonJSON, cartJSON, oldJSON} {
		a.must(t, 201, "POST", "/v1/experiments", d)
	}
	a.must(t, 200, "POST", "/v1/experiments/button/start", "")
	a.must(t, 200, "POST", "/v1/experiments/old/start", "")
	a.must(t, 200, "POST", "/v1/experiments/old/stop", "")
	got := a.must(t, 200, "POST", "/v1/treatments", `{"unit":{"type":"user","id":"`+inButton+`"}}`)
	if !strings.Contains(got.body, `"reason":"assigned"`) {
		t.Fatalf("the sample unit is not in the sample experiment: %s", got.body)
	}
	a.must(t, 200, "POST", "/v1/exposures", `{"unit":{"type":"user","id":"`+inButton+`"},"experiments":["button"]}`)
	a.must(t, 200, "POST", "/v1/events", `{"events":[`+purchase(1, inButton)+`]}`)
}

// inButton is the id of a user whose slot belongs to the experiment "button".
const inButton = "u2"

func purchase(n int, user string) string {
	id := "00000000-0000-4000-8000-" + strings.Repeat("0", 12)
	id = id[:len(id)-4] + string([]byte{'0' + byte(n/1000%10), '0' + byte(n/100%10), '0' + byte(n/10%10), '0' + byte(n%10)})
	return `{"id":"` + id + `","unit":{"type":"user","id":"` + user + `"},"type":"purchase",` +
		`"occurred_at":"2026-05-04T03:00:00Z","items_total":1999,"discounts":200,"currency":"EUR"}`
}

// visible returns all that the API shows, to tell whether anything was written.
func (a *api) visible(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, path := range []string{
		"/v1/layers", "/v1/experiments",
		"/v1/units/user/u1", "/v1/units/user/u2", "/v1/units/user/u3", "/v1/units/user/%EF%BF%BDx",
	} {
		all.WriteString(a.send(t, "GET", path, "").body)
	}
	return all.String()
}

type problem struct {
	Type   string
	Title  string
	Status int
	Detail string
	Field  string
}

// problemOf reads a problem and checks what every one of them must have.
func problemOf(t *testing.T, got answer) problem {
	t.Helper()
	var p problem
	if err := json.Unmarshal([]byte(got.body), &p); err != nil {
		t.Fatalf("problem %q: %v", got.body, err)
	}
	if p.Status != got.StatusCode || p.Title == "" || !strings.HasPrefix(p.Type, "/problems/") {
		t.Errorf("problem of status %d is incomplete: %s", got.StatusCode, got.body)
	}
	if ct := got.Header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("Content-Type = %q, want application/problem+json", ct)
	}
	return p
}
