package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Bounds of what passes between nodes.
const (
	nodeDial   = 500 * time.Millisecond
	nodeAnswer = 1 << 20 // bytes
)

// NodeClient speaks for one node of a cluster to the others. Unlike Client it
// addresses each by name and never repeats a call: whoever calls does so again
// with fresher knowledge. It is safe for concurrent use.
type NodeClient struct {
	urls  map[pgcluster.NodeID]string
	token string
	http  *http.Client
}

// NewNodeClient returns a client of members, which know each other by token. It
// keeps connections open, and bypasses any proxy.
func NewNodeClient(members []pgcluster.Member, token string) *NodeClient {
	c := &NodeClient{
		urls:  map[pgcluster.NodeID]string{},
		token: token,
		http: &http.Client{Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: nodeDial, KeepAlive: time.Second}).DialContext,
			MaxIdleConnsPerHost: 4,
			IdleConnTimeout:     time.Minute,
		}},
	}
	for _, m := range members {
		c.urls[m.ID] = "http://" + m.HTTPAddr()
	}
	return c
}

// Report returns the report of id as soon as its Seq is above after, or after
// wait, of at most a second, as it then is.
func (c *NodeClient) Report(ctx context.Context, id pgcluster.NodeID, after uint64, wait time.Duration) (pgcluster.Report, error) {
	path := "/v1/node/report?after=" + strconv.FormatUint(after, 10) + "&wait_ms=" + strconv.FormatInt(wait.Milliseconds(), 10)
	answer, err := c.send(ctx, id, http.MethodGet, path, nil)
	if err != nil {
		return pgcluster.Report{}, fmt.Errorf("report of %s: %w", id, err)
	}
	var r pgcluster.Report
	if err := json.Unmarshal(answer, &r); err != nil {
		return pgcluster.Report{}, fmt.Errorf("report of %s: decode: %w", id, err)
	}
	if r.Node != id {
		return pgcluster.Report{}, fmt.Errorf("report of %s: %q answers at its address", id, r.Node)
	}
	return r, nil
}

// Order returns once o.Node has accepted o. It returns pgcluster.ErrStaleOrder or
// pgcluster.ErrWrongSystem where the node does.
func (c *NodeClient) Order(ctx context.Context, o pgcluster.Order) error {
	body, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("order to %s: encode: %w", o.Node, err)
	}
	_, err = c.send(ctx, o.Node, http.MethodPost, "/v1/node/orders", body)
	if p, ok := errors.AsType[*Problem](err); ok {
		switch p.Type {
		case "/problems/stale-order":
			err = pgcluster.ErrStaleOrder
		case "/problems/wrong-system":
			err = pgcluster.ErrWrongSystem
		}
	}
	if err != nil {
		return fmt.Errorf("order to %s: %w", o.Node, err)
	}
	return nil
}

func (c *NodeClient) send(ctx context.Context, id pgcluster.NodeID, method, path string, body []byte) ([]byte, error) {
	url, known := c.urls[id]
	if !known {
		return nil, fmt.Errorf("there is no node %q", id)
	}
	req, err := http.NewRequestWithContext(ctx, method, url+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
		// Not sent: lets net/http repeat an order on a connection that was closed
		// while idle. Orders are goals, so a second one changes nothing.
		req.Header["Idempotency-Key"] = nil
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, nodeAnswer))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, newProblem(resp, answer)
	}
	return answer, nil
}
