package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/pgcluster"
)

// nodeCmd is who belongs to the cluster.
type nodeCmd struct {
	Add     nodeAddCmd     `cmd:"" help:"Make a node part of the cluster. Start it first: xpd run --join."`
	Remove  nodeRemoveCmd  `cmd:"" help:"Take a node, there or dead, out of the cluster."`
	Replace nodeReplaceCmd `cmd:"" help:"Add a node, wait until it can take the place of another one, and remove that one."`
	Set     nodeSetCmd     `cmd:"" help:"Change the tags of a node."`
}

type nodeAddCmd struct {
	Node   string `arg:"" complete:"" help:"NAME=HOST[:HTTP[:RAFT[:POSTGRES]]][/TAG]…, as the node's own --cluster says. Tags: witness, zone=NAME, priority=NUMBER, nofailover, nosync."`
	NoWait bool   `help:"Do not wait until it streams and votes."`
	unasked
	because
}

// Run adds the node and waits until it is as good as the others.
func (c *nodeAddCmd) Run(ctx context.Context, env *env) error {
	m, err := pgcluster.ParseMember(c.Node)
	if err != nil {
		return err
	}
	ctx, cancel := env.within(ctx, nodeTime)
	defer cancel()
	added, err := env.act.AddMember(ctx, c.Node, c.Reason)
	if err != nil {
		return notDone(err)
	}
	text := fmt.Sprintf("%s is part of the cluster\n", m.ID)
	if !c.NoWait {
		var spare bool
		if added, spare, err = awaitNode(ctx, env, m.ID); err != nil {
			return err
		}
		if spare {
			text += "Commits need not wait for it: pgctl status says why\n"
		}
	}
	return env.print(added, text)
}

// awaitNode returns once a new node votes and, if commits may wait for it, is in the
// sync set, or would be but for its zone (spare).
func awaitNode(ctx context.Context, env *env, id pgcluster.NodeID) (m client.ClusterMember, spare bool, err error) {
	now, err := env.until(ctx, fmt.Sprintf("%s was ready", id), func(now client.Cluster) (bool, string) {
		m, known := memberOf(now, id)
		n := nodeOf(now, id)
		switch {
		case !known:
			return false, fmt.Sprintf("%s is not known at %s yet", id, now.SeenBy)
		case !m.Witness && n.State != "streaming":
			what := n.State
			if n.Doing != nil && n.Doing.Step != "" {
				what = n.Doing.Step
			}
			return false, fmt.Sprintf("%s: %s", id, what)
		case !m.Witness && !m.NoSync && n.Sync != "sync" && !n.Spare:
			return false, fmt.Sprintf("%s streams; commits do not wait for it yet", id)
		case !m.Voter:
			return false, fmt.Sprintf("%s does not vote in Raft yet", id)
		}
		return true, ""
	})
	m, _ = memberOf(now, id)
	return m, nodeOf(now, id).Spare, err
}

type nodeRemoveCmd struct {
	Node   string `arg:"" help:"Name of the node."`
	Yes    bool   `short:"y" help:"Do not ask."`
	NoWait bool   `help:"Do not wait until it is gone."`
	because
}

// Run asks first, because a name is never used again.
func (c *nodeRemoveCmd) Run(ctx context.Context, env *env) error {
	if !c.Yes {
		if err := env.confirmed(ctx, "Remove %s from the cluster?\nIts PostgreSQL stops, and its name cannot be used again.", c.Node); err != nil {
			return err
		}
	}
	ctx, cancel := env.within(ctx, nodeTime)
	defer cancel()
	return removeNode(ctx, env, pgcluster.NodeID(c.Node), c.Reason, c.NoWait)
}

func removeNode(ctx context.Context, env *env, id pgcluster.NodeID, reason string, noWait bool) error {
	m, err := env.act.RemoveMember(ctx, id, reason)
	if err != nil {
		return notDone(err)
	}
	if noWait {
		return env.print(m, fmt.Sprintf("%s is on its way out\n", id))
	}
	_, err = env.until(ctx, fmt.Sprintf("%s was removed", id), func(now client.Cluster) (bool, string) {
		if _, known := memberOf(now, id); known {
			return false, fmt.Sprintf("%s: commits may still rest on it", id)
		}
		return now.Confirmed && now.Leader != id, fmt.Sprintf("%s is out; another node is to lead the Raft group", id)
	})
	if err != nil {
		return err
	}
	return env.print(m, fmt.Sprintf("%s is no part of the cluster any more: stop its xpd\n", id))
}

type nodeReplaceCmd struct {
	Old string `arg:"" help:"Name of the node that goes, there or dead."`
	New string `arg:"" help:"Node that comes, as for add."`
	Yes bool   `short:"y" help:"Do not ask."`
	because
}

// Run adds the one and removes the other. If it is ended in between, both are members.
func (c *nodeReplaceCmd) Run(ctx context.Context, env *env) error {
	m, err := pgcluster.ParseMember(c.New)
	if err != nil {
		return err
	}
	old := pgcluster.NodeID(c.Old)
	asking, cancel := env.within(ctx, askTime)
	defer cancel()
	now, err := env.cluster(asking)
	if err != nil {
		return err
	}
	switch was, known := memberOf(now, old); {
	case !known:
		return fmt.Errorf("there is no node %s\nNothing was done", old)
	case now.Primary == old:
		return fmt.Errorf("%s is primary: pgctl switchover moves the role first\nNothing was done", old)
	case was.Witness != m.Witness:
		return fmt.Errorf("of %s and %s only one is a witness: add and remove them one by one\nNothing was done", old, m.ID)
	}
	if !c.Yes {
		if err := env.confirmed(ctx, "Replace %s by %s?\nThe PostgreSQL of %s stops, and its name cannot be used again.", old, m.ID, old); err != nil {
			return err
		}
	}
	ctx, cancel = env.within(ctx, 2*nodeTime)
	defer cancel()
	if _, known := memberOf(now, m.ID); !known { // it was added by a replace that was ended
		if _, err := env.act.AddMember(ctx, c.New, c.Reason); err != nil {
			return notDone(err)
		}
	}
	if _, _, err := awaitNode(ctx, env, m.ID); err != nil {
		return fmt.Errorf("%w\n%s is still a member; the same command goes on from here", err, old)
	}
	return removeNode(ctx, env, old, c.Reason, false)
}

type nodeSetCmd struct {
	Node string   `arg:"" help:"Name of the node."`
	Tags []string `arg:"" complete:"zone= priority= nofailover nofailover=false nosync nosync=false" help:"zone=NAME, zone= (none), priority=NUMBER, nofailover, nofailover=false, nosync or nosync=false."`
	unasked
	because
}

// Run changes the tags.
func (c *nodeSetCmd) Run(ctx context.Context, env *env) error {
	ctx, cancel := env.within(ctx, changeTime)
	defer cancel()
	m, err := env.act.ChangeMember(ctx, pgcluster.NodeID(c.Node), c.Tags, c.Reason)
	if err != nil {
		return notDone(err)
	}
	return env.print(m, fmt.Sprintf("%s: %s\n", m.ID, tagsOf(m)))
}

// tagsOf lists what is special about a member.
func tagsOf(m client.ClusterMember) string {
	var out []string
	for _, tag := range []struct {
		text string
		set  bool
	}{
		{"witness", m.Witness},
		{"zone " + m.Zone, m.Zone != ""},
		{fmt.Sprintf("priority %d", m.Priority), m.Priority != 0},
		{"nofailover", m.NoFailover},
		{"nosync", m.NoSync},
		{"leaving", m.Leaving},
	} {
		if tag.set {
			out = append(out, tag.text)
		}
	}
	if len(out) == 0 {
		return "no tags"
	}
	return strings.Join(out, ", ")
}
