package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// ClusterPlan is what a change of primary would do as the node SeenBy sees it.
type ClusterPlan struct {
	failover.Plan
	SeenBy    pgcluster.NodeID `json:"seen_by"`
	Confirmed bool             `json:"confirmed"` // that node is in touch with a leader
}

// ClusterPlan returns what a failover or a switchover would do, to node to if it is
// not empty, by the first node that answers. Nothing is done.
func (c *Client) ClusterPlan(ctx context.Context, kind failover.Kind, to pgcluster.NodeID) (ClusterPlan, error) {
	q := url.Values{"kind": {string(kind)}}
	if to != "" {
		q.Set("to", string(to))
	}
	return fetch[ClusterPlan](ctx, c, call{method: http.MethodGet, path: "/v1/cluster/plan?" + q.Encode()})
}
