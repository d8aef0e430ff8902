package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/xpd-platform/xpd/failover/raftstore"
	"github.com/xpd-platform/xpd/pgcluster"
)

// recoverCmd is for when most nodes are lost for good: without a majority the others
// cannot agree on anything, not even on going on without them.
type recoverCmd struct {
	Node    string `required:"" env:"XPD_NODE" help:"Name of this node."`
	Dir     string `required:"" env:"XPD_DIR" type:"existingdir" help:"Folder of this node's data, whose xpd does not run."`
	Members string `required:"" help:"The nodes that go on, the same on each of them: NAME=HOST[:HTTP[:RAFT[:POSTGRES]]],…"`
	Yes     bool   `short:"y" help:"Do not ask."`
}

// Run shows what this node knows and asks before it makes that all there is.
func (c *recoverCmd) Run(ctx context.Context, s streams) error {
	voters, err := pgcluster.ParseMembers(c.Members)
	if err != nil {
		return fmt.Errorf("--members: %w", err)
	}
	node, err := pgcluster.ParseNodeID(c.Node)
	if err != nil {
		return fmt.Errorf("--node: %w", err)
	}
	logger := slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	dir := filepath.Join(c.Dir, "raft")
	r, err := raftstore.Inspect(dir, logger)
	if err != nil {
		return err
	}
	if err := checkRemains(r, node, voters); err != nil {
		return err
	}
	c.describe(s, r, voters)
	if !c.Yes {
		if err := askYes(ctx, s); err != nil {
			return err
		}
	}
	if err := raftstore.Recover(node, dir, voters, logger); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "Done. Start xpd on %s; then pgctl node remove takes out who is lost.\n", names(voters))
	return nil
}

// checkRemains refuses what cannot be meant.
func checkRemains(r raftstore.Remains, node pgcluster.NodeID, voters []pgcluster.Member) error {
	if len(r.State.Members) == 0 {
		return errors.New("this node has never learned what its cluster agreed on: recover another survivor")
	}
	self := false
	for _, v := range voters {
		m, known := r.State.Member(v.ID)
		switch {
		case !known:
			return fmt.Errorf("%s is no member of the cluster: add it with pgctl node add once the others run", v.ID)
		case m.RaftAddr() != v.RaftAddr():
			return fmt.Errorf("%s speaks Raft at %s, not at %s", v.ID, m.RaftAddr(), v.RaftAddr())
		}
		self = self || v.ID == node
	}
	if !self {
		return fmt.Errorf("--members must name %s itself", node)
	}
	return nil
}

func (c *recoverCmd) describe(s streams, r raftstore.Remains, voters []pgcluster.Member) {
	fmt.Fprintf(s.out, "What %s knows, up to Raft term %d, index %d:\n", c.Node, r.Term, r.Index)
	fmt.Fprintf(s.out, "  nodes %s\n", names(r.State.Members))
	fmt.Fprintf(s.out, "  epoch %d, primary %s, sync %s\n", r.State.Primary.Epoch, r.State.Primary.Node, r.State.Sync.Durable)
	fmt.Fprintf(s.out, "The Raft group becomes %s alone. What only the lost nodes have agreed on is forgotten.\n", names(voters))
	fmt.Fprintf(s.out, "Make sure that no other node of the cluster runs, and that of the survivors none knows a\nhigher term, or of the same term a higher index.\n")
}

func names(members []pgcluster.Member) string {
	out := make([]string, len(members))
	for i, m := range members {
		out[i] = string(m.ID)
	}
	return strings.Join(out, ", ")
}

// askYes returns nil if somebody types yes.
func askYes(ctx context.Context, s streams) error {
	fmt.Fprint(s.err, "Type yes to go on: ")
	answer := make(chan string, 1)
	go func() { // a read of a terminal cannot be ended; interrupted, xpd exits instead
		line, err := bufio.NewReader(s.in).ReadString('\n')
		if err != nil {
			line = ""
		}
		answer <- line
	}()
	select {
	case <-ctx.Done():
	case line := <-answer:
		if strings.TrimSpace(line) == "yes" {
			return nil
		}
	}
	return errors.New("not confirmed: nothing was done")
}
