package client

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// SetMaintenance has the cluster do without a node for d, in whole seconds, and leave its
// PostgreSQL alone. The status says when (Released).
func (c *Client) SetMaintenance(ctx context.Context, id pgcluster.NodeID, d time.Duration, reason string) (failover.Absence, error) {
	in := struct {
		Seconds int64  `json:"seconds"`
		Reason  string `json:"reason"`
	}{int64(d / time.Second), reason}
	return c.leaveOut(ctx, "maintenance", http.MethodPost, id, "maintenance", in)
}

// EndMaintenance takes a node back.
func (c *Client) EndMaintenance(ctx context.Context, id pgcluster.NodeID, reason string) error {
	_, err := c.leaveOut(ctx, "end maintenance", http.MethodDelete, id, "maintenance", map[string]string{"reason": reason})
	return err
}

// Fence has the PostgreSQL of a node stopped and kept stopped.
func (c *Client) Fence(ctx context.Context, id pgcluster.NodeID, reason string) (failover.Absence, error) {
	return c.leaveOut(ctx, "fence", http.MethodPost, id, "fence", map[string]string{"reason": reason})
}

// Unfence takes a fenced node back.
func (c *Client) Unfence(ctx context.Context, id pgcluster.NodeID, reason string) error {
	_, err := c.leaveOut(ctx, "unfence", http.MethodDelete, id, "fence", map[string]string{"reason": reason})
	return err
}

// Reclone has the data of a standby replaced by a copy of the primary's. With discard,
// they are deleted before, to make room.
func (c *Client) Reclone(ctx context.Context, id pgcluster.NodeID, discard bool, reason string) (failover.Absence, error) {
	in := struct {
		Discard bool   `json:"discard"`
		Reason  string `json:"reason"`
	}{discard, reason}
	return c.leaveOut(ctx, "reclone", http.MethodPost, id, "reclone", in)
}

// CancelReclone lets a standby keep its data, if they are there yet.
func (c *Client) CancelReclone(ctx context.Context, id pgcluster.NodeID, reason string) error {
	_, err := c.leaveOut(ctx, "cancel reclone", http.MethodDelete, id, "reclone", map[string]string{"reason": reason})
	return err
}

func (c *Client) leaveOut(ctx context.Context, what, method string, id pgcluster.NodeID, kind string, in any) (failover.Absence, error) {
	var out struct {
		Absent failover.Absence `json:"absent"`
	}
	err := c.change(ctx, what, method, memberPath(id)+"/"+kind, in, &out)
	return out.Absent, err
}

// ReclonePlan is what Reclone would do as the node SeenBy sees it.
type ReclonePlan struct {
	failover.ReclonePlan

	SeenBy    pgcluster.NodeID `json:"seen_by"`
	Confirmed bool             `json:"confirmed"` // that node is in touch with a leader
}

// PlanReclone returns what Reclone would do, by the first node that answers. Nothing is
// done.
func (c *Client) PlanReclone(ctx context.Context, id pgcluster.NodeID, discard bool) (ReclonePlan, error) {
	return fetch[ReclonePlan](ctx, c, call{
		method: http.MethodGet, path: memberPath(id) + "/reclone?discard=" + strconv.FormatBool(discard),
	})
}

// ClusterAudit returns what people asked of the cluster, oldest first: what was done, and
// what the node that answers has refused since it started.
func (c *Client) ClusterAudit(ctx context.Context, limit int) ([]failover.AuditEntry, error) {
	out, err := fetch[struct {
		Entries []failover.AuditEntry `json:"entries"`
	}](ctx, c, call{method: http.MethodGet, path: "/v1/cluster/audit?limit=" + strconv.Itoa(limit)})
	return out.Entries, err
}
