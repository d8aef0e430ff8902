// Package client is the typed HTTP client of xpd. It knows several nodes and
// sends a request to the next one when a node cannot be reached or refuses it,
// until the caller's context ends. That is safe because every call may be
// repeated: the API answers a call that was already carried out as it did the
// first time.
//
// It keeps no copy of anything the service knows, and does not choose nodes by
// their role: any node answers any call.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	minWait = 20 * time.Millisecond // after the first round in which every node failed
	maxWait = time.Second           // also the most that a Retry-After is given
)

// Client calls a group of xpd nodes. It is safe for concurrent use.
type Client struct {
	urls     []string
	http     *http.Client
	operator string

	authorize func(http.Header)

	current atomic.Uint64 // index of the node that answered last
	calls   atomic.Uint64
	retries atomic.Uint64
	failed  atomic.Uint64
}

// New returns a client of the nodes with the given base URLs, such as
// http://127.0.0.1:8300. Without hc it uses a transport that keeps many
// connections open; a Timeout in hc bounds one attempt, not the call.
func New(urls []string, hc *http.Client) (*Client, error) {
	return NewWith(urls, Options{HTTP: hc})
}

// NewWith is New for nodes that ask who is there. It returns a *BarredError if the token
// could be read on its way to one.
func NewWith(urls []string, o Options) (*Client, error) {
	if len(urls) == 0 {
		return nil, errors.New("client: no URL given")
	}
	if o.HTTP != nil && o.TLS != nil {
		return nil, errors.New("client: TLS is given beside HTTP, whose transport does not know of it: see NewTransport")
	}
	c := &Client{http: o.HTTP}
	for _, raw := range urls {
		base, err := parseURL(raw, o.Token != "")
		if err != nil {
			return nil, err
		}
		c.urls = append(c.urls, base)
	}
	if c.http == nil {
		c.http = &http.Client{Transport: NewTransport(o.TLS)}
	}
	var err error
	if c.authorize, err = bearer(o.Token); err != nil {
		return nil, err
	}
	if o.Token != "" {
		c.http = stayHere(c.http)
	}
	return c, nil
}

// Stats counts calls since the client was made.
type Stats struct {
	Calls   uint64
	Retries uint64 // attempts beyond the first of a call
	Failed  uint64 // calls that returned no answer: the context ended first
}

// Stats returns the counts so far.
func (c *Client) Stats() Stats {
	return Stats{Calls: c.calls.Load(), Retries: c.retries.Load(), Failed: c.failed.Load()}
}

// Problem is an answer that says why a call was not carried out (RFC 9457).
type Problem struct { //nolint:errname // the word of RFC 9457
	Type   string `json:"type"` // such as /problems/stale-etag; docs/api.md lists them
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Field  string `json:"field"` // the offending field of the request, if it is one

	retryAfter time.Duration
}

func (p *Problem) Error() string {
	text := strconv.Itoa(p.Status) + " " + p.Title
	if p.Field != "" {
		text += ": " + p.Field
	}
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	return text
}

// call is one request, whichever node it is sent to.
type call struct {
	method   string
	path     string // escaped, with the query
	ifMatch  string
	operator string
	in       any // nil: no body
}

// do carries out a call and decodes the answer into out, if out is not nil. It
// returns a *Problem if a node refused the call for good, a *BarredError if none talks
// to this client, and an error that wraps ctx.Err() if no node could carry it out before
// ctx ended.
func (c *Client) do(ctx context.Context, q call, out any) error {
	var body []byte
	if q.in != nil {
		var err error
		if body, err = json.Marshal(q.in); err != nil {
			return fmt.Errorf("%s %s: encode request: %w", q.method, q.path, err)
		}
	}
	c.calls.Add(1)
	answer, err := c.try(ctx, q, body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", q.method, q.path, err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s %s: decode answer: %w", q.method, q.path, err)
	}
	return nil
}

// fetch carries out a call whose whole answer is a T.
func fetch[T any](ctx context.Context, c *Client, q call) (T, error) {
	var out T
	err := c.do(ctx, q, &out)
	return out, err
}

// try sends the call to one node after the other, and waits after each round in
// which all of them failed.
func (c *Client) try(ctx context.Context, q call, body []byte) ([]byte, error) {
	first, n := c.current.Load(), uint64(len(c.urls))
	wait := minWait
	var asked time.Duration // the longest Retry-After of this round
	var shut uint64         // how many nodes in a row cannot be talked to at all
	for i := uint64(0); ; i++ {
		node := (first + i) % n
		answer, err := c.send(ctx, c.urls[node], q, body)
		if err == nil {
			c.current.Store(node)
			return answer, nil
		}
		p, refused := errors.AsType[*Problem](err)
		if refused && p.Status != http.StatusBadGateway && p.Status != http.StatusServiceUnavailable {
			c.current.Store(node)
			return nil, err
		}
		if refused {
			asked = max(asked, p.retryAfter)
		}
		if shut++; !isBarred(err) {
			shut = 0
		}
		if shut == n {
			c.failed.Add(1)
			return nil, err
		}
		if i%n == n-1 {
			pause(ctx, min(maxWait, max(asked, wait)))
			wait, asked = min(maxWait, 2*wait), 0
		}
		if ctx.Err() != nil {
			c.failed.Add(1)
			return nil, fmt.Errorf("%w; last: %w", ctx.Err(), err)
		}
		c.retries.Add(1)
	}
}

// pause waits for d, give or take a quarter so that clients spread, or until ctx
// ends.
func pause(ctx context.Context, d time.Duration) {
	spread := d/4 + 1
	timer := time.NewTimer(d - spread/2 + rand.N(spread)) //nolint:gosec // spreading needs no secrecy
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// send makes one attempt at one node. Its error is a *Problem if an answer came.
func (c *Client) send(ctx context.Context, base string, q call, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, base+q.path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if q.ifMatch != "" {
		req.Header.Set("If-Match", q.ifMatch)
	}
	if q.operator != "" {
		req.Header.Set("X-Xpd-Operator", q.operator)
	}
	c.authorize(req.Header)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, barred(base, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", base, err)
	}
	if tlsOnly(base, resp, answer) {
		return nil, &BarredError{base, BarWantsTLS, errors.New("it does not speak http there, but https")}
	}
	if resp.StatusCode/100 != 2 {
		return nil, newProblem(resp, answer)
	}
	return answer, nil
}

// newProblem reads a problem, or makes one of whatever a proxy in between said.
func newProblem(resp *http.Response, answer []byte) *Problem {
	p := &Problem{}
	if err := json.Unmarshal(answer, p); err != nil || p.Title == "" {
		p = &Problem{Title: http.StatusText(resp.StatusCode), Detail: string(answer[:min(len(answer), 200)])}
	}
	p.Status = resp.StatusCode
	if to := resp.Header.Get("Location"); p.Status/100 == 3 {
		p.Detail = "it points to " + strconv.Quote(to) + ", and a token is not sent on: name the node itself"
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		p.retryAfter = min(maxWait, time.Duration(min(s, 3600))*time.Second)
	}
	return p
}
