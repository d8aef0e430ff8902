package client

import (
	"context"
	"net/http"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// ForceFailover makes node to primary, or the one that has most if to is empty, although
// writes that were acknowledged may be lost with the nodes that are missing.
func (c *Client) ForceFailover(ctx context.Context, to pgcluster.NodeID, reason string) (failover.Operation, error) {
	in := struct {
		To             pgcluster.NodeID `json:"to"`
		AcceptDataLoss bool             `json:"accept_data_loss"`
		Reason         string           `json:"reason"`
	}{to, true, reason}
	var out operationAnswer
	err := c.change(ctx, "failover", http.MethodPost, "/v1/cluster/failover", in, &out)
	return out.Operation, err
}

// RestartCluster begins to restart PostgreSQL on a node, or on all one after the other
// if id is empty.
func (c *Client) RestartCluster(ctx context.Context, id pgcluster.NodeID, reason string) (failover.Operation, error) {
	var out operationAnswer
	err := c.change(ctx, "restart", http.MethodPost, "/v1/cluster/restart", map[string]string{"node": string(id), "reason": reason}, &out)
	return out.Operation, err
}

// PauseCluster has the cluster begin nothing by itself for d, in whole seconds.
func (c *Client) PauseCluster(ctx context.Context, d time.Duration, reason string) (failover.Pause, error) {
	in := struct {
		Seconds int64  `json:"seconds"`
		Reason  string `json:"reason"`
	}{int64(d / time.Second), reason}
	var out struct {
		Paused failover.Pause `json:"paused"`
	}
	err := c.change(ctx, "pause", http.MethodPost, "/v1/cluster/pause", in, &out)
	return out.Paused, err
}

// ResumeCluster ends a pause.
func (c *Client) ResumeCluster(ctx context.Context, reason string) error {
	var out struct{}
	return c.change(ctx, "resume", http.MethodPost, "/v1/cluster/resume", map[string]string{"reason": reason}, &out)
}

// ClusterSettings is what people have chosen for the whole cluster.
type ClusterSettings struct {
	Mode     failover.Mode     `json:"mode"`
	K        int               `json:"k"`        // how many standbys a commit waits for; 0: half of the nodes
	Postgres map[string]string `json:"postgres"` // settings of every node's PostgreSQL
	Version  uint64            `json:"version"`  // grows with every change of Postgres or of the members

	KInForce int           `json:"k_in_force"` // what commits wait for now
	KWanted  int           `json:"k_wanted"`   // what K comes to
	Nodes    []NodeApplied `json:"nodes"`      // that have PostgreSQL, as the node that answered sees them
}

// NodeApplied is how far the settings have got on a node.
type NodeApplied struct {
	Node    pgcluster.NodeID `json:"node"`
	Silent  bool             `json:"silent"`          // the rest may be out of date
	Version uint64           `json:"version"`         // that its PostgreSQL has loaded
	Pending []string         `json:"pending_restart"` // settings that wait for a restart of its PostgreSQL
	Refused []string         `json:"refused"`         // NAME=VALUE: and why its PostgreSQL does not take it
}

// SettingsChange changes what is not nil and leaves the rest.
type SettingsChange struct {
	Mode     *failover.Mode     `json:"mode,omitempty"`
	K        *int               `json:"k,omitempty"`
	Postgres map[string]*string `json:"postgres,omitempty"` // nil takes a setting back
	Reason   string             `json:"reason,omitempty"`
}

// ClusterSettings returns the settings of the whole cluster.
func (c *Client) ClusterSettings(ctx context.Context) (ClusterSettings, error) {
	return fetch[ClusterSettings](ctx, c, call{method: http.MethodGet, path: "/v1/cluster/settings"})
}

// ChangeClusterSettings changes settings of the whole cluster and returns all of them.
// PostgreSQL applies them by and by; the status says which wait for a restart.
func (c *Client) ChangeClusterSettings(ctx context.Context, change SettingsChange) (ClusterSettings, error) {
	var out ClusterSettings
	err := c.change(ctx, "change settings", http.MethodPatch, "/v1/cluster/settings", change, &out)
	return out, err
}
