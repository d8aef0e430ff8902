package localcluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Newcomer is a node that is to be added.
type Newcomer struct {
	Tags  []string // see pgcluster.Member.WithTags
	Host  *Host    // none: on loopback, where the others must be too
	Flags []string // more of xpd run's

	Prepare func(dir string) error // its folder, before xpd starts
}

// StartNewcomer starts a node with the next free name, which belongs to no cluster: it
// waits to be added. The cluster's methods know it, but Members does not list it until
// Adopt.
func (c *Cluster) StartNewcomer(ctx context.Context, o Newcomer) (pgcluster.Member, error) {
	m, err := c.nextMember(o)
	if err != nil {
		return m, err
	}
	n, err := c.newNode(m)
	if err != nil {
		return m, err
	}
	n.joins, n.flags = true, o.Flags
	if o.Host != nil {
		n.command = o.Host.Command
	}
	if o.Prepare != nil {
		if err := o.Prepare(n.dir); err != nil {
			return m, fmt.Errorf("prepare %s: %w", m.ID, err)
		}
	}
	c.mu.Lock()
	c.nodes[m.ID] = n
	c.mu.Unlock()
	if err := c.StartNode(m.ID); err != nil {
		return m, err
	}
	if err := poll(ctx, pollInterval, func() error { return c.ask(ctx, m, "/healthz", nil) }); err != nil {
		return m, fmt.Errorf("wait for %s: %w", m.ID, err)
	}
	return m, nil
}

// RestartXPD ends the xpd of a node in an orderly way and starts it again, as for an
// upgrade. With Options.KeepPostgres its PostgreSQL runs on.
func (c *Cluster) RestartXPD(ctx context.Context, id pgcluster.NodeID) error {
	if err := c.StopNode(ctx, id); err != nil {
		return err
	}
	return c.StartNode(id)
}

// Recover makes members the whole Raft group of a node whose xpd does not run.
func (c *Cluster) Recover(ctx context.Context, id pgcluster.NodeID, members ...pgcluster.Member) error {
	n, err := c.node(id)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, c.o.Binary, "recover", "--node", string(id), "--dir", n.dir,
		"--members", pgcluster.FormatMembers(members), "--yes")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("recover %s: %w\n%s", id, err, out)
	}
	return nil
}

// nextMember chooses name and ports of a node that is to be added.
func (c *Cluster) nextMember(o Newcomer) (pgcluster.Member, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	number := 1
	for c.nodes[numbered(number)] != nil {
		number++
	}
	if number > maxNodes {
		return pgcluster.Member{}, fmt.Errorf("there are %d nodes already", maxNodes)
	}
	m := pgcluster.Member{ID: numbered(number)}
	if o.Host != nil {
		m.Host = o.Host.Address
		m.HTTPPort, m.RaftPort, m.PGPort = pgcluster.DefaultHTTPPort, pgcluster.DefaultRaftPort, pgcluster.DefaultPGPort
		return m.WithTags(o.Tags...)
	}
	base := c.first[0].HTTPPort
	for i := len(c.nodes); i < maxNodes; i++ {
		m.Host, m.HTTPPort, m.RaftPort, m.PGPort = "127.0.0.1", base+i, base+raftOffset+i, base+pgOffset+i
		taken := slices.ContainsFunc(c.members, func(other pgcluster.Member) bool { return other.HTTPPort == m.HTTPPort })
		if !taken && len(takenPorts(m)) == 0 {
			return m.WithTags(o.Tags...)
		}
	}
	return m, errors.New("found no free ports")
}

func numbered(n int) pgcluster.NodeID { return pgcluster.NodeID("n" + strconv.Itoa(n)) }

// AddNode starts a node and has the cluster add it. It returns once that is agreed on;
// WaitReady returns once the node has data and votes.
func (c *Cluster) AddNode(ctx context.Context, o Newcomer) (pgcluster.NodeID, error) {
	cl, err := c.Client(access.RoleDBA)
	if err != nil {
		return "", err
	}
	m, err := c.StartNewcomer(ctx, o)
	if err != nil {
		return m.ID, err
	}
	if _, err := cl.AddMember(ctx, m.String(), "test"); err != nil {
		return m.ID, err
	}
	c.Adopt(m)
	return m.ID, nil
}

// Adopt lists m among the members from now on: somebody has added it.
func (c *Cluster) Adopt(m pgcluster.Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members = append(slices.Clone(c.members), m)
	slices.SortFunc(c.members, func(a, b pgcluster.Member) int { return numberOf(a.ID) - numberOf(b.ID) })
}

// Forget lists id among the members no more: somebody has removed it.
func (c *Cluster) Forget(id pgcluster.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members = slices.DeleteFunc(slices.Clone(c.members), func(m pgcluster.Member) bool { return m.ID == id })
}

func numberOf(id pgcluster.NodeID) int {
	n, _ := strconv.Atoi(string(id[1:])) // all are named by numbered
	return n
}

// RemoveNode has the cluster remove a node, waits until that is done, the node is no
// member of the Raft group and knows it, and then stops it. A node whose xpd does not
// run is not waited for.
func (c *Cluster) RemoveNode(ctx context.Context, id pgcluster.NodeID) error {
	n, err := c.node(id)
	if err != nil {
		return err
	}
	c.Forget(id)
	cl, err := c.Client(access.RoleDBA)
	if err != nil {
		return err
	}
	if _, err := cl.RemoveMember(ctx, id, "test"); err != nil {
		return err
	}
	err = poll(ctx, pollInterval, func() error {
		now, err := cl.Cluster(ctx)
		if err == nil && slices.ContainsFunc(now.Members, func(m client.ClusterMember) bool { return m.ID == id }) {
			err = fmt.Errorf("%s is still a member", id)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	n.mu.Lock()
	runs := n.xpd.running()
	n.mu.Unlock()
	if !runs {
		return nil
	}
	if err := poll(ctx, pollInterval, func() error { return c.knowsRemoved(ctx, n) }); err != nil {
		return fmt.Errorf("wait until %s knows that it was removed: %w", id, err)
	}
	return c.StopNode(ctx, id)
}

// knowsRemoved returns nil once a node that was removed says so.
func (c *Cluster) knowsRemoved(ctx context.Context, n *node) error {
	resp, err := c.get(ctx, n.member, "/readyz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var p client.Problem
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&p); err != nil {
		return err
	}
	if !strings.Contains(p.Detail, "removed from the cluster") {
		return fmt.Errorf("%s answers %s: %s", n.member.ID, resp.Status, p.Detail)
	}
	return nil
}
