package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// leaseQuestion asks id for a lease, or to confirm an epoch.
type leaseQuestion struct {
	Node  pgcluster.NodeID `json:"node"`
	Epoch uint64           `json:"epoch"`
}

// Lease returns what id grants. It fails with failover.ErrNotLeader if id has
// nothing to grant.
func (c *NodeClient) Lease(ctx context.Context, id pgcluster.NodeID) (pgcluster.Grant, error) {
	var g pgcluster.Grant
	answer, err := c.ask(ctx, "/v1/node/lease", leaseQuestion{Node: id})
	if p, ok := errors.AsType[*Problem](err); ok && p.Type == "/problems/no-leader" {
		err = failover.ErrNotLeader
	}
	if err == nil {
		err = json.Unmarshal(answer, &g)
	}
	if err != nil {
		return g, fmt.Errorf("lease from %s: %w", id, err)
	}
	return g, nil
}

// Confirm returns nil if id has pledged to no epoch above epoch, and
// pgcluster.ErrStaleOrder if it has.
func (c *NodeClient) Confirm(ctx context.Context, id pgcluster.NodeID, epoch uint64) error {
	_, err := c.ask(ctx, "/v1/node/confirm", leaseQuestion{Node: id, Epoch: epoch})
	if p, ok := errors.AsType[*Problem](err); ok && p.Type == "/problems/stale-order" {
		err = pgcluster.ErrStaleOrder
	}
	if err != nil {
		return fmt.Errorf("epoch %d confirmed by %s: %w", epoch, id, err)
	}
	return nil
}

func (c *NodeClient) ask(ctx context.Context, path string, q leaseQuestion) ([]byte, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return c.send(ctx, q.Node, http.MethodPost, path, body)
}
