package client

import (
	"context"
	"net/http"

	"github.com/xpd-platform/xpd/pgcluster"
)

// NodeSettings is what a node's PostgreSQL runs with.
type NodeSettings struct {
	Node      pgcluster.NodeID           `json:"node"`
	Version   uint64                     `json:"version"`   // of the cluster's settings that its files have
	Refused   []string                   `json:"refused"`   // NAME=VALUE: and why PostgreSQL does not take it
	Overrides []string                   `json:"overrides"` // ALTER SYSTEM of what is xpd's own, taken back
	Settings  []pgcluster.RunningSetting `json:"settings"`  // that are not the default
}

// NodeSettings returns what PostgreSQL on the first node that answers runs with.
func (c *Client) NodeSettings(ctx context.Context) (NodeSettings, error) {
	return fetch[NodeSettings](ctx, c, call{method: http.MethodGet, path: "/v1/node-settings"})
}
