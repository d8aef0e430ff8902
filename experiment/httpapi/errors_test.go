package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestErrors sends what cannot be accepted, and checks the answer and that
// nothing at all was written.
func TestErrors(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	sample(t, a)
	before := a.visible(t)

	define := func(slots, treatments string) string {
		return `{"key":"new","layer":"checkout","slots":` + slots + `,"treatments":` + treatments + `}`
	}
	const arms = `[{"key":"a","control":true,"weight":1}]`
	const noSlots = `[]`
	u3 := `{"unit":{"type":"user","id":"u3"}`
	long := strings.Repeat("x", 257)
	revised := strings.Replace(buttonJSON, `"to":5000`, `"to":4000`, 1)

	tests := []struct {
		name   string
		method string
		path   string
		body   string
		header []string
		status int
		kind   string
		field  string
	}{
		{"a body over 64 KiB", "POST", "/v1/treatments", u3 + strings.Repeat(" ", 64<<10) + `}`, nil, 413, "too-large", ""},
		{"a definition over 64 KiB", "POST", "/v1/experiments", define(noSlots, arms) + strings.Repeat(" ", 64<<10), nil, 413, "too-large", ""},
		{"a batch over 1 MiB", "POST", "/v1/events", `{"events":[` + purchase(2, "u1") + strings.Repeat(" ", 1<<20) + `]}`, nil, 413, "too-large", ""},
		{"broken JSON", "POST", "/v1/treatments", u3 + `,`, nil, 400, "bad-json", ""},
		{"broken JSON in a batch", "POST", "/v1/events", `{"events":[` + purchase(2, "u1") + `,{]}`, nil, 400, "bad-json", ""},
		{"no body", "POST", "/v1/treatments", "", []string{"Content-Type", "application/json"}, 400, "bad-json", ""},
		{"data after the value", "POST", "/v1/treatments", u3 + `}{}`, nil, 400, "bad-json", ""},
		{"not UTF-8", "POST", "/v1/treatments", "{\"unit\":{\"type\":\"user\",\"id\":\"\xff\"}}", nil, 400, "bad-json", ""},
		{"an unknown field", "POST", "/v1/treatments", u3 + `,"colour":1}`, nil, 400, "unknown-field", "colour"},
		{"an unknown field of a definition", "POST", "/v1/experiments", `{"key":"new","state":"running"}`, nil, 400, "unknown-field", "state"},
		{"a value of the wrong type", "POST", "/v1/treatments", `{"unit":{"type":"user","id":7}}`, nil, 422, "invalid", "unit.id"},
		{"another content type", "POST", "/v1/treatments", u3 + `}`, []string{"Content-Type", "text/plain"}, 415, "media-type", ""},
		{"null", "POST", "/v1/treatments", `null`, nil, 422, "invalid", "unit.type"},

		{"an id over 256 bytes", "POST", "/v1/treatments", `{"unit":{"type":"user","id":"` + long + `"}}`, nil, 422, "invalid", "unit.id"},
		{"an id over 256 bytes of a unit", "GET", "/v1/units/user/" + long, "", nil, 422, "invalid", "unit.id"},
		{"an id over 256 bytes to expose", "POST", "/v1/exposures", `{"unit":{"type":"user","id":"` + long + `"},"experiments":["button"]}`, nil, 422, "invalid", "unit.id"},
		{"half a character", "POST", "/v1/treatments", `{"unit":{"type":"user","id":"\ud800x"}}`, nil, 422, "invalid", "unit.id"},
		{"a control character", "POST", "/v1/treatments", `{"unit":{"type":"user","id":"a\u0000"}}`, nil, 422, "invalid", "unit.id"},
		{"a type that is no key", "POST", "/v1/treatments", `{"unit":{"type":"User","id":"u3"}}`, nil, 422, "invalid", "unit.type"},
		{"too many experiments named", "POST", "/v1/treatments", u3 + `,"experiments":["a"` + strings.Repeat(`,"a"`, 1000) + `]}`, nil, 422, "invalid", "experiments"},

		{"an unknown experiment", "GET", "/v1/experiments/nope", "", nil, 404, "not-found", ""},
		{"an unknown experiment to start", "POST", "/v1/experiments/nope/start", "", nil, 404, "not-found", ""},
		{"an unknown experiment to change", "PUT", "/v1/experiments/nope", strings.Replace(buttonJSON, `"button"`, `"nope"`, 1), []string{"If-Match", `"1"`}, 404, "not-found", ""},
		{"a key that no database can hold", "GET", "/v1/experiments/%00", "", nil, 404, "not-found", ""},
		{"a key that is not UTF-8", "GET", "/v1/layers/%FF%2F", "", nil, 404, "not-found", ""},
		{"a unit that is not UTF-8", "GET", "/v1/units/user/%FF", "", nil, 422, "invalid", "unit.id"},
		{"an unknown layer", "GET", "/v1/layers/nope", "", nil, 404, "not-found", ""},
		{"an unknown layer to use", "POST", "/v1/experiments", strings.Replace(define(noSlots, arms), "checkout", "nope", 1), nil, 422, "invalid", "layer"},
		{"an unknown state", "GET", "/v1/experiments?state=happy", "", nil, 422, "invalid", "state"},

		{"slots of another experiment", "POST", "/v1/experiments", define(`[{"from":4999,"to":5000}]`, arms), nil, 409, "slots-taken", "slots"},
		{"slots of another experiment, in a change", "PUT", "/v1/experiments/button", strings.Replace(buttonJSON, `"to":5000`, `"to":5001`, 1), []string{"If-Match", `"2"`}, 409, "slots-taken", "slots"},
		{"slots that overlap themselves", "POST", "/v1/experiments", define(`[{"from":7000,"to":8000},{"from":7999,"to":9000}]`, arms), nil, 422, "invalid", "slots[1]"},
		{"slots beyond the last", "POST", "/v1/experiments", define(`[{"from":9000,"to":10001}]`, arms), nil, 422, "invalid", "slots[0]"},
		{"weights that sum to zero", "POST", "/v1/experiments", define(noSlots, `[{"key":"a","control":true,"weight":0},{"key":"b","weight":0}]`), nil, 422, "invalid", "treatments"},
		{"a negative weight", "POST", "/v1/experiments", define(noSlots, `[{"key":"a","control":true,"weight":2},{"key":"b","weight":-1}]`), nil, 422, "invalid", "treatments[1].weight"},
		{"no weight", "POST", "/v1/experiments", define(noSlots, `[{"key":"a","control":true}]`), nil, 422, "invalid", "treatments[0].weight"},
		{"no control", "POST", "/v1/experiments", define(noSlots, `[{"key":"a","weight":1}]`), nil, 422, "invalid", "treatments"},
		{"a value that is null", "POST", "/v1/experiments", define(noSlots, `[{"key":"a","control":true,"weight":1,"values":{"v":null}}]`), nil, 422, "invalid", "treatments[0].values.v"},
		{"a value that is a list", "POST", "/v1/experiments", define(noSlots, `[{"key":"a","control":true,"weight":1,"values":{"v":[1]}}]`), nil, 422, "invalid", "treatments[0].values.v"},
		{"a start that is no time", "POST", "/v1/experiments", `{"key":"new","layer":"checkout","start":"soon","treatments":` + arms + `}`, nil, 422, "invalid", "start"},
		{"an end that has no JSON form in UTC", "POST", "/v1/experiments", `{"key":"new","layer":"checkout","end":"9999-12-31T23:59:59-01:00","treatments":` + arms + `}`, nil, 422, "invalid", "end"},
		{"a description with NUL", "POST", "/v1/experiments", `{"key":"new","layer":"checkout","description":"a\u0000","treatments":` + arms + `}`, nil, 422, "invalid", "description"},
		{"a taken key", "POST", "/v1/experiments", strings.Replace(buttonJSON, "green", "red", 2), nil, 409, "exists", "key"},
		{"a taken key of a layer", "POST", "/v1/layers", `{"key":"checkout","unit_type":"device"}`, nil, 409, "exists", "key"},
		{"a layer's key that is none", "POST", "/v1/layers", `{"key":"Check out","unit_type":"user"}`, nil, 422, "invalid", "key"},

		{"resuming a draft", "POST", "/v1/experiments/cart/resume", "", nil, 409, "bad-transition", ""},
		{"pausing a draft", "POST", "/v1/experiments/cart/pause", "", nil, 409, "bad-transition", ""},
		{"starting a stopped one", "POST", "/v1/experiments/old/start", "", nil, 409, "bad-transition", ""},
		{"archiving a running one", "POST", "/v1/experiments/button/archive", "", nil, 409, "bad-transition", ""},
		{"removing a treatment that has run", "PUT", "/v1/experiments/button", strings.Replace(buttonJSON, `"key":"green"`, `"key":"red"`, 1), []string{"If-Match", `"2"`}, 422, "invalid", "treatments"},
		{"another key than the path's", "PUT", "/v1/experiments/cart", buttonJSON, []string{"If-Match", `"1"`}, 422, "invalid", "key"},
		{"a stale ETag", "PUT", "/v1/experiments/button", revised, []string{"If-Match", `"1"`}, 412, "stale-etag", ""},
		{"an ETag from nowhere", "PUT", "/v1/experiments/button", revised, []string{"If-Match", `"abc"`}, 412, "stale-etag", ""},
		{"a stale ETag of a step", "POST", "/v1/experiments/button/stop", "", []string{"If-Match", `"1"`}, 412, "stale-etag", ""},
		{"no ETag", "PUT", "/v1/experiments/button", revised, nil, 428, "if-match-missing", ""},
		{"an ETag without quotes", "PUT", "/v1/experiments/button", revised, []string{"If-Match", `2`}, 400, "bad-if-match", ""},
		{"a weak ETag", "PUT", "/v1/experiments/button", revised, []string{"If-Match", `W/"2"`}, 400, "bad-if-match", ""},

		{"no events", "POST", "/v1/events", `{"events":[]}`, nil, 422, "invalid", "events"},
		{"1,001 events", "POST", "/v1/events", `{"events":[` + purchase(2, "u1") + strings.Repeat(`,{}`, 1000) + `]}`, nil, 422, "invalid", "events"},
		{"no experiments to expose", "POST", "/v1/exposures", u3 + `}`, nil, 422, "invalid", "experiments"},
		{"an exposure in the future", "POST", "/v1/exposures", u3 + `,"experiments":["button"],"exposed_at":"2026-05-04T03:08:00Z"}`, nil, 422, "invalid", "exposed_at"},
		{"an exposure at no time", "POST", "/v1/exposures", u3 + `,"experiments":["button"],"exposed_at":"yesterday"}`, nil, 422, "invalid", "exposed_at"},

		{"no such route", "GET", "/v2/experiments", "", nil, 404, "no-route", ""},
		{"no such method", "DELETE", "/v1/experiments/button", "", nil, 405, "method-not-allowed", ""},
	}
	for _, tt := range tests {
		got := a.send(t, tt.method, tt.path, tt.body, tt.header...)
		p := problemOf(t, got)
		if got.StatusCode != tt.status || p.Type != "/problems/"+tt.kind || p.Field != tt.field {
			t.Errorf("%s: got %d %s field %q (%s), want %d %s field %q",
				tt.name, got.StatusCode, p.Type, p.Field, p.Detail, tt.status, tt.kind, tt.field)
		}
		if after := a.visible(t); after != before {
			t.Fatalf("%s: something was written:\n%s\nbefore:\n%s", tt.name, after, before)
		}
	}
	if logged := a.log.String(); logged != "" {
		t.Errorf("mistakes of the client were logged:\n%s", logged)
	}
}

func TestMethodNotAllowed_saysWhatIs(t *testing.T) {
	t.Parallel()
	got := newAPI(t).send(t, "DELETE", "/v1/experiments/button", "")
	if allow := got.Header.Get("Allow"); allow != "GET, HEAD, PUT" {
		t.Errorf("Allow = %q, want GET, HEAD, PUT", allow)
	}
}

// TestEvents_eachOnItsOwn checks that broken events of a batch are rejected with
// their field, and that the others are stored.
func TestEvents_eachOnItsOwn(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	with := func(n int, old, repl string) string {
		text := purchase(n, "u1")
		if !strings.Contains(text, old) {
			t.Fatalf("no %s in %s", old, text)
		}
		return strings.Replace(text, old, repl, 1)
	}
	tests := []struct{ name, event, result, field string }{
		{"fine", purchase(0, "u1"), "accepted", ""},
		{"no id", with(1, `"id":"00000000-0000-4000-8000-000000000001",`, ``), "rejected", "id"},
		{"an id that is no UUID", with(2, `"00000000-0000-4000-8000-000000000002"`, `"2"`), "rejected", "id"},
		{"an id that is a number", with(3, `"00000000-0000-4000-8000-000000000003"`, `3`), "rejected", "id"},
		{"a negative amount", with(4, `1999`, `-1`), "rejected", "items_total"},
		{"an amount with a fraction", with(5, `1999`, `19.99`), "rejected", "items_total"},
		{"more discounts than items", with(6, `200,`, `2000,`), "rejected", "discounts"},
		{"a currency that is none", with(7, `EUR`, `eur`), "rejected", "currency"},
		{"the future", with(8, `03:00:00Z`, `03:07:02Z`), "rejected", "occurred_at"},
		{"no time", with(9, `2026-05-04T03:00:00Z`, ``), "rejected", "occurred_at"},
		{"an id over 256 bytes", with(10, `"u1"`, `"`+strings.Repeat("x", 257)+`"`), "rejected", "unit.id"},
		{"an unknown field", with(11, `"currency"`, `"money"`), "rejected", "money"},
		{"money without a purchase", with(12, `"purchase"`, `"view"`), "rejected", "items_total"},
		{"a number beyond all", with(13, `"items_total":1999`, `"value":1e999`), "rejected", "value"},
		{"no object", `7`, "rejected", ""},
		{"fine, just not too far ahead", with(15, `03:00:00Z`, `03:07:01Z`), "accepted", ""},
		{"the first again", purchase(0, "u1"), "duplicate", ""},
	}
	events := make([]string, len(tests))
	for i, tt := range tests {
		events[i] = tt.event
	}
	got := a.must(t, http.StatusOK, "POST", "/v1/events", `{"events":[`+strings.Join(events, ",")+`]}`)
	var resp struct {
		Results []struct{ ID, Result, Reason, Field string }
	}
	unmarshal(t, got.body, &resp)
	if len(resp.Results) != len(tests) {
		t.Fatalf("%d results, want %d", len(resp.Results), len(tests))
	}
	for i, tt := range tests {
		want := ""
		if tt.result == "rejected" {
			want = fmt.Sprintf("events[%d]", i)
			if tt.field != "" {
				want += "." + tt.field
			}
		}
		r := resp.Results[i]
		if r.Result != tt.result || r.Field != want || (r.Reason != "") != (tt.result == "rejected") {
			t.Errorf("%s: %+v, want %s with field %q", tt.name, r, tt.result, want)
		}
	}
	if len(a.store.events) != 2 {
		t.Errorf("%d events are stored, want the 2 that were accepted", len(a.store.events))
	}
}
