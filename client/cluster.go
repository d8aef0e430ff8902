package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Cluster is the status of the cluster as the node SeenBy sees it.
type Cluster struct {
	failover.Status
	Leader    pgcluster.NodeID `json:"leader"` // empty if unknown
	SeenBy    pgcluster.NodeID `json:"seen_by"`
	Confirmed bool             `json:"confirmed"` // that node is in touch with a leader
	Members   []ClusterMember  `json:"members"`

	// PostgresTLS says that PostgreSQL lets nobody in over TCP without, unless a rule of an
	// adopted one does for roles that are not xpd's.
	PostgresTLS bool `json:"postgres_tls"`
}

// ClusterMember says where a node is reached, and what it is for.
type ClusterMember struct {
	ID       pgcluster.NodeID `json:"id"`
	HTTP     string           `json:"http"`     // host:port
	Postgres string           `json:"postgres"` // host:port; empty for a witness
	Raft     string           `json:"raft"`     // host:port
	Voter    bool             `json:"voter"`    // in Raft

	Witness    bool   `json:"witness"`
	Zone       string `json:"zone"`
	Priority   int    `json:"priority"`
	NoFailover bool   `json:"nofailover"`
	NoSync     bool   `json:"nosync"`
	Leaving    bool   `json:"leaving"`
}

// Cluster returns the status from the first node that answers.
func (c *Client) Cluster(ctx context.Context) (Cluster, error) {
	return fetch[Cluster](ctx, c, call{method: http.MethodGet, path: "/v1/cluster"})
}

// ClusterHistory returns the latest events of the cluster, oldest first.
func (c *Client) ClusterHistory(ctx context.Context, limit int) ([]failover.Event, error) {
	out, err := fetch[struct {
		Events []failover.Event `json:"events"`
	}](ctx, c, call{method: http.MethodGet, path: "/v1/cluster/history?limit=" + strconv.Itoa(limit)})
	return out.Events, err
}

// Switchover begins to move the role of primary to node to, or to the standby
// that is furthest if to is empty. Like every change of the cluster it is not safe to
// repeat: it is sent again only where nothing was done, and fails with
// failover.ErrUncertain if that is not known. A refusal is a *Problem.
func (c *Client) Switchover(ctx context.Context, to pgcluster.NodeID, reason string) (failover.Operation, error) {
	var out operationAnswer
	err := c.change(ctx, "switchover", http.MethodPost, "/v1/cluster/switchover", map[string]string{"to": string(to), "reason": reason}, &out)
	return out.Operation, err
}

type operationAnswer struct {
	Operation failover.Operation `json:"operation"`
}

// AddMember makes a node part of the cluster that runs already and waits for that.
// What m says is NAME=HOST[:HTTP[:RAFT[:POSTGRES]]][/TAG]…, as xpd reads it.
func (c *Client) AddMember(ctx context.Context, m, reason string) (ClusterMember, error) {
	return c.changeMember(ctx, "add a node", http.MethodPost, "/v1/cluster/members", map[string]string{"member": m, "reason": reason})
}

// ChangeMember gives a node other tags, such as zone=b or nosync=false.
func (c *Client) ChangeMember(ctx context.Context, id pgcluster.NodeID, tags []string, reason string) (ClusterMember, error) {
	return c.changeMember(ctx, "change a node", http.MethodPatch, memberPath(id), struct {
		Tags   []string `json:"tags"`
		Reason string   `json:"reason"`
	}{tags, reason})
}

// RemoveMember begins to take a node out of the cluster: it is gone once it is no
// member of Cluster any more.
func (c *Client) RemoveMember(ctx context.Context, id pgcluster.NodeID, reason string) (ClusterMember, error) {
	return c.changeMember(ctx, "remove a node", http.MethodDelete, memberPath(id), map[string]string{"reason": reason})
}

func memberPath(id pgcluster.NodeID) string {
	return "/v1/cluster/members/" + url.PathEscape(string(id))
}

func (c *Client) changeMember(ctx context.Context, what, method, path string, in any) (ClusterMember, error) {
	var out struct {
		Member ClusterMember `json:"member"`
	}
	err := c.change(ctx, what, method, path, in, &out)
	return out.Member, err
}

// Operator makes name the one who asks for changes, in the cluster's history. It must
// be called before c is used.
func (c *Client) Operator(name string) { c.operator = name }

// change sends a change of the cluster until a node has accepted or refused it.
func (c *Client) change(ctx context.Context, what, method, path string, in, out any) error {
	q := call{method: method, path: path, operator: c.operator}
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("%s: encode request: %w", what, err)
	}
	var said error // what a node answered last, which tells more than that others do not
	for i, shut := 0, 0; ; i++ {
		answer, err := c.send(ctx, c.urls[i%len(c.urls)], q, body)
		if err == nil {
			if err := json.Unmarshal(answer, out); err != nil {
				return fmt.Errorf("%s: decode answer: %w: %w", what, failover.ErrUncertain, err)
			}
			return nil
		}
		if !notDone(err) {
			return fmt.Errorf("%s: %w", what, uncertain(err))
		}
		if _, answered := errors.AsType[*Problem](err); answered || said == nil {
			said = err
		}
		if shut++; !isBarred(err) {
			shut = 0
		}
		if shut == len(c.urls) {
			return fmt.Errorf("%s: %w", what, err)
		}
		if i%len(c.urls) == len(c.urls)-1 {
			pause(ctx, changeRetry)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w; last: %w", what, ctx.Err(), said)
		}
	}
}

const changeRetry = 200 * time.Millisecond

// notDone reports whether err shows that nothing was done and another attempt may
// do better: the node was never reached, or says so itself.
func notDone(err error) bool {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p.Type == "/problems/no-leader" || p.Type == "/problems/removed"
	}
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "dial" || isBarred(err)
}

// uncertain adds failover.ErrUncertain unless a node said what became of the call.
func uncertain(err error) error {
	if p, ok := errors.AsType[*Problem](err); ok && p.Status/100 != 5 {
		return err
	}
	return fmt.Errorf("%w: %w", failover.ErrUncertain, err)
}
