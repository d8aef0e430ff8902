package localcluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// askPatience bounds how long a node that is asked how it is may take.
const askPatience = 2 * time.Second

// WaitReady returns once every node accepts requests and every node says that the
// cluster is ok, in the same epoch. If ctx ends first, the error says what is
// missing.
func (c *Cluster) WaitReady(ctx context.Context) error {
	err := poll(ctx, pollInterval, func() error { return c.ready(ctx) })
	if err != nil {
		return fmt.Errorf("wait until the cluster is ready: %w", err)
	}
	return nil
}

func (c *Cluster) ready(ctx context.Context) error {
	epoch := uint64(0)
	for _, m := range c.current() {
		if err := c.ask(ctx, m, "/readyz", nil); err != nil {
			return err
		}
		var s client.Cluster
		if err := c.ask(ctx, m, "/v1/cluster", &s); err != nil {
			return err
		}
		if missing := c.notSettled(s); missing != "" {
			return fmt.Errorf("%s says that %s", m.ID, missing)
		}
		if s.Level != failover.LevelOK && !c.goodForTwo(s.Status) {
			return fmt.Errorf("%s says %s: %s", m.ID, s.Level, describe(s.Status))
		}
		if epoch != 0 && s.Epoch != epoch {
			return fmt.Errorf("%s is in epoch %d, another node in %d", m.ID, s.Epoch, epoch)
		}
		epoch = s.Epoch
	}
	return nil
}

// goodForTwo reports whether all is well with a cluster of two nodes with data: it is
// degraded for good, because the loss of either stops writes.
func (c *Cluster) goodForTwo(s failover.Status) bool {
	data := 0
	for _, m := range c.current() {
		if m.Data() {
			data++
		}
	}
	return data == 2 && s.Level == failover.LevelDegraded && !slices.ContainsFunc(s.Nodes, func(n failover.NodeStatus) bool {
		return n.State != "open" && n.State != "streaming" && n.State != "witness"
	})
}

// notSettled says which node is not what it should be in the cluster, or "".
func (c *Cluster) notSettled(s client.Cluster) string {
	members := c.current()
	if len(s.Members) != len(members) {
		return fmt.Sprintf("there are %d nodes, not %d", len(s.Members), len(members))
	}
	for _, m := range s.Members {
		if !m.Voter {
			return fmt.Sprintf("%s does not vote yet", m.ID)
		}
	}
	return ""
}

// describe says in one line what is amiss.
func describe(s failover.Status) string {
	parts := []string{"writes " + s.Writes}
	for _, n := range s.Nodes {
		parts = append(parts, fmt.Sprintf("%s %s", n.ID, n.State))
	}
	return strings.Join(parts, ", ")
}

// Status returns how a node sees the cluster.
func (c *Cluster) Status(ctx context.Context, id pgcluster.NodeID) (failover.Status, error) {
	n, err := c.node(id)
	if err != nil {
		return failover.Status{}, err
	}
	var s failover.Status
	if err := c.ask(ctx, n.member, "/v1/cluster", &s); err != nil {
		return failover.Status{}, err
	}
	return s, nil
}

// WaitStatus returns the first status for which ok is true, from any node that
// knows of the newest epoch.
func (c *Cluster) WaitStatus(ctx context.Context, what string, ok func(failover.Status) bool) (failover.Status, error) {
	var found failover.Status
	err := poll(ctx, pollInterval, func() error {
		statuses, err := c.newest(ctx)
		if err != nil {
			return err
		}
		for _, s := range statuses {
			if ok(s) {
				found = s
				return nil
			}
		}
		return errors.New(describe(statuses[0]))
	})
	if err != nil {
		return failover.Status{}, fmt.Errorf("wait until %s: %w", what, err)
	}
	return found, nil
}

// newest returns what the nodes that know of the newest epoch say, at least one.
func (c *Cluster) newest(ctx context.Context) ([]failover.Status, error) {
	var statuses []failover.Status
	var errs []error
	for _, m := range c.current() {
		s, err := c.Status(ctx, m.ID)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if len(statuses) > 0 && s.Epoch > statuses[0].Epoch {
			statuses = nil
		}
		if len(statuses) == 0 || s.Epoch == statuses[0].Epoch {
			statuses = append(statuses, s)
		}
	}
	if len(statuses) == 0 {
		return nil, fmt.Errorf("no node answers: %w", errors.Join(errs...))
	}
	return statuses, nil
}

// Primary returns the primary, once writes are open on one.
func (c *Cluster) Primary(ctx context.Context) (pgcluster.NodeID, error) {
	s, err := c.WaitStatus(ctx, "there is a primary", func(s failover.Status) bool {
		return s.Primary != "" && s.Level != failover.LevelNoWrites
	})
	return s.Primary, err
}

// ask gets one answer of one node, without the retries of a client: what this
// node says is the question.
func (c *Cluster) ask(ctx context.Context, m pgcluster.Member, path string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	resp, err := c.get(ctx, m, path)
	if err != nil {
		return fmt.Errorf("%s: %w", m.ID, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%s: %w", m.ID, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s answers %s: %.200s", m.ID, path, resp.Status, body)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("%s: answer to %s: %w", m.ID, path, err)
	}
	return nil
}
