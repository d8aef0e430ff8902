package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/xpd-platform/xpd/internal/certs"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Bounds of what passes between nodes.
const (
	nodeDial      = 500 * time.Millisecond
	nodeHandshake = time.Second
	nodeAnswer    = 1 << 20 // bytes
)

// NodeClient speaks for one node of a cluster to the others. Unlike Client it
// addresses each by name and never repeats a call: whoever calls does so again
// with fresher knowledge. It is safe for concurrent use.
type NodeClient struct {
	urls   atomic.Pointer[map[pgcluster.NodeID]string]
	scheme string
	token  string
	http   *http.Client
}

// NewNodeClient returns a client of members, which know each other by token and, if
// there is a trust, by their certificates: see NodeTransport.
func NewNodeClient(members []pgcluster.Member, token string, trust func() *tls.Config) *NodeClient {
	c := &NodeClient{scheme: "http://", token: token, http: stayHere(&http.Client{Transport: NodeTransport(trust)})}
	if trust != nil {
		c.scheme = "https://"
	}
	c.SetMembers(members)
	return c
}

// NodeTransport returns the transport of a node to the others. It keeps connections
// open, and bypasses any proxy. trust, which is nil where only http is spoken, returns
// what shows who this node is and whom it believes at the moment; it is asked for every
// new connection. Who is spoken to may be said by [certs.Expect].
func NodeTransport(trust func() *tls.Config) *http.Transport {
	dial := (&net.Dialer{Timeout: nodeDial, KeepAlive: time.Second}).DialContext
	t := &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute}
	if trust == nil {
		return t
	}
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		raw, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, nodeHandshake)
		defer cancel()
		conf := trust()
		conf.ServerName, _, _ = net.SplitHostPort(addr) // which was just dialled
		c := tls.Client(raw, conf)
		if err := c.HandshakeContext(ctx); err != nil {
			_ = raw.Close() // which a handshake that took too long has done already
			return nil, fmt.Errorf("%s: %w", addr, err)
		}
		if err := certs.CheckExpected(ctx, c.ConnectionState()); err != nil {
			_ = raw.Close()
			return nil, err
		}
		return c, nil
	}
	return t
}

// SetMembers makes members the nodes that c knows.
func (c *NodeClient) SetMembers(members []pgcluster.Member) {
	urls := make(map[pgcluster.NodeID]string, len(members))
	for _, m := range members {
		urls[m.ID] = c.scheme + m.HTTPAddr()
	}
	c.urls.Store(&urls)
}

// Identity returns who the node called id is.
func (c *NodeClient) Identity(ctx context.Context, id pgcluster.NodeID) (pgcluster.Identity, error) {
	url, known := (*c.urls.Load())[id]
	if !known {
		return pgcluster.Identity{}, fmt.Errorf("there is no node %q", id)
	}
	return c.identity(ctx, id, url)
}

// IdentityAt returns who answers at the address of m, which need not be a member.
func (c *NodeClient) IdentityAt(ctx context.Context, m pgcluster.Member) (pgcluster.Identity, error) {
	return c.identity(ctx, m.ID, c.scheme+m.HTTPAddr())
}

func (c *NodeClient) identity(ctx context.Context, id pgcluster.NodeID, url string) (pgcluster.Identity, error) {
	var i pgcluster.Identity
	answer, err := c.sendTo(ctx, id, pgcluster.IdentityToken(c.token), http.MethodGet, url+"/v1/node/identity", nil)
	if err == nil {
		err = json.Unmarshal(answer, &i)
	}
	if err != nil {
		return pgcluster.Identity{}, fmt.Errorf("identity: %w", err)
	}
	return i, nil
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
	url, known := (*c.urls.Load())[id]
	if !known {
		return nil, fmt.Errorf("there is no node %q", id)
	}
	return c.sendTo(ctx, id, c.token, method, url+path, body)
}

// sendTo asks id: it shows no other node that answers in its place a token, and does not
// believe one either that has taken over an address of which a connection is kept.
func (c *NodeClient) sendTo(ctx context.Context, id pgcluster.NodeID, token, method, url string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(certs.Expect(ctx, id), method, url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
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
	if who, _ := certs.NodeOf(resp.TLS); resp.TLS != nil && who != id {
		return nil, fmt.Errorf("at the address of %s somebody shows the certificate of %s", id, who)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, nodeAnswer))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, newProblem(resp, answer)
	}
	return answer, nil
}
