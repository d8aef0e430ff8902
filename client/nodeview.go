package client

import (
	"context"
	"net/http"

	"github.com/xpd-platform/xpd/failover"
)

// NodeView returns what a node sees of the others: the first that answers.
func (c *Client) NodeView(ctx context.Context) (failover.Sight, error) {
	return fetch[failover.Sight](ctx, c, call{method: http.MethodGet, path: "/v1/node-view"})
}
