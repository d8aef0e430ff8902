package localcluster

import (
	"context"
	"io"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Get asks one node for a path of its HTTP API and returns the status and the text of
// its answer; status 0 and why, if none came within a second.
func (c *Cluster) Get(ctx context.Context, id pgcluster.NodeID, path string) (status int, text string) {
	n, err := c.node(id)
	if err != nil {
		return 0, err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	resp, err := c.get(ctx, n.member, path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}
