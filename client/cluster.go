package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
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
}

// ClusterMember says where a node is reached.
type ClusterMember struct {
	ID       pgcluster.NodeID `json:"id"`
	HTTP     string           `json:"http"`     // host:port
	Postgres string           `json:"postgres"` // host:port
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
// that is furthest if to is empty. It is the one call that is not safe to repeat:
// it is sent again only where nothing was done, and fails with
// failover.ErrUncertain if that is not known. A refusal is a *Problem.
func (c *Client) Switchover(ctx context.Context, to pgcluster.NodeID, reason string) (failover.Operation, error) {
	q := call{method: http.MethodPost, path: "/v1/cluster/switchover"}
	body, err := json.Marshal(map[string]string{"to": string(to), "reason": reason})
	if err != nil {
		return failover.Operation{}, fmt.Errorf("switchover: encode request: %w", err)
	}
	for i := 0; ; i++ {
		answer, err := c.send(ctx, c.urls[i%len(c.urls)], q, body)
		if err == nil {
			return decodeOperation(answer)
		}
		if !notDone(err) {
			return failover.Operation{}, fmt.Errorf("switchover: %w", uncertain(err))
		}
		if i%len(c.urls) == len(c.urls)-1 {
			pause(ctx, switchoverRetry)
		}
		if ctx.Err() != nil {
			return failover.Operation{}, fmt.Errorf("switchover: %w; last: %w", ctx.Err(), err)
		}
	}
}

const switchoverRetry = 200 * time.Millisecond

func decodeOperation(answer []byte) (failover.Operation, error) {
	var out struct {
		Operation failover.Operation `json:"operation"`
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return failover.Operation{}, fmt.Errorf("switchover: decode answer: %w: %w", failover.ErrUncertain, err)
	}
	return out.Operation, nil
}

// notDone reports whether err shows that nothing was done and another attempt may
// do better: the node was never reached, or says so itself.
func notDone(err error) bool {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p.Type == "/problems/no-leader"
	}
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "dial"
}

// uncertain adds failover.ErrUncertain unless a node said what became of the call.
func uncertain(err error) error {
	if p, ok := errors.AsType[*Problem](err); ok && p.Status/100 != 5 {
		return err
	}
	return fmt.Errorf("%w: %w", failover.ErrUncertain, err)
}
