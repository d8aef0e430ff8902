package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

type whyCmd struct{}

// why is what keeps the cluster from being well, and what to do.
type why struct {
	Level     failover.Level     `json:"level"`
	Writes    string             `json:"writes"`
	Failover  string             `json:"failover"`
	Amiss     []string           `json:"amiss"`
	Missing   []pgcluster.NodeID `json:"missing"` // silent nodes
	Do        []string           `json:"do"`
	SeenBy    pgcluster.NodeID   `json:"seen_by"`
	Leader    pgcluster.NodeID   `json:"leader"`
	Confirmed bool               `json:"confirmed"`
	Asked     []askedNode        `json:"asked,omitempty"` // each by itself, where no node hears a leader
}

// askedNode is what one node says about itself, which nobody confirms.
type askedNode struct {
	ID     pgcluster.NodeID    `json:"id"`
	Voter  bool                `json:"voter"`
	Error  string              `json:"error,omitempty"` // it did not answer
	Epoch  uint64              `json:"epoch,omitempty"`
	Writes string              `json:"writes,omitempty"`
	Self   failover.NodeStatus `json:"self"`
}

// Run says why, and exits with the code of pgctl status.
func (c *whyCmd) Run(ctx context.Context, env *env) error {
	ctx, cancel := env.within(ctx, askTime)
	defer cancel()
	now, err := env.cluster(ctx)
	if err != nil {
		return err
	}
	plan, err := whyPlan(ctx, env, now)
	if err != nil {
		return env.unanswered(err)
	}
	w := why{
		Level: now.Level, Writes: now.Writes, Failover: whyFailover(now, plan.Plan), Amiss: whatIsAmiss(now), Missing: silent(now),
		SeenBy: now.SeenBy, Leader: now.Leader, Confirmed: now.Confirmed,
	}
	if w.Confirmed {
		w.Do = whatToDo(now, plan.Plan)
	} else {
		w.Asked = askEach(ctx, env, now.Members)
		w.Do = whatToDoAlone(w)
	}
	if err := env.print(w, w.text()); err != nil {
		return err
	}
	if code := statusCode(now); code != exitOK {
		return exitError{code: code}
	}
	return nil
}

// whyPlan returns what a failover would do. It does not look again for a node that
// hears a leader where there was none.
func whyPlan(ctx context.Context, env *env, now client.Cluster) (client.ClusterPlan, error) {
	if now.Confirmed {
		return env.plan(ctx, failover.KindFailover, "")
	}
	return env.ask.ClusterPlan(ctx, failover.KindFailover, "")
}

func (w why) text() string {
	var b strings.Builder
	writes := w.Writes
	if reason, blocked := strings.CutPrefix(writes, "blocked: "); blocked {
		writes = "wait: " + reason
	}
	if !w.Confirmed {
		sentence(&b, "  ", "UNCONFIRMED: no node that answers hears a Raft leader; what follows is what %s sees itself, and what each node says of itself", w.SeenBy)
	}
	sentence(&b, "  ", "writes: %s", writes)
	sentence(&b, "  ", "failover: %s", w.Failover)
	for _, a := range w.Amiss {
		sentence(&b, "  ", "%s", a)
	}
	if len(w.Asked) > 0 {
		b.WriteString("\nasked directly, UNCONFIRMED:\n")
		printAsked(&b, w.Asked)
	}
	b.WriteByte('\n')
	if len(w.Do) == 0 {
		b.WriteString("nothing to do\n")
	} else {
		b.WriteString("what to do:\n")
	}
	for i, do := range w.Do {
		sentence(&b, "     ", "%d. %s", i+1, do)
	}
	return b.String()
}

// whyFailover says in a sentence whether there is a failover, or could be.
func whyFailover(now client.Cluster, plan failover.Plan) string {
	op := now.Op
	lost := nodeOf(now, now.Primary).State != "open"
	switch {
	case op != nil && op.Phase == failover.PhaseRecruit && plan.Refused != "":
		return fmt.Sprintf("under way to epoch %d, and cannot go on: %s", op.Epoch, plan.Refused)
	case op != nil:
		return fmt.Sprintf("a %s to epoch %d is under way (phase %s)", op.Kind, op.Epoch, op.Phase)
	case now.Held != "":
		return "called for and held back: " + now.Held
	case plan.Epoch == 0:
		return "none: " + plan.Refused
	case plan.Supposed == "" && plan.To != "":
		return fmt.Sprintf("begins by itself now; %s would become primary", plan.To)
	case plan.Refused != "" && lost:
		return "impossible now: " + plan.Refused
	case plan.Refused != "":
		return fmt.Sprintf("not called for; if %s were lost, impossible: %s", plan.From, plan.Refused)
	}
	return fmt.Sprintf("not called for; if %s were lost, %s would become primary", plan.From, plan.To)
}

// whatIsAmiss has a line for each node that is not well.
func whatIsAmiss(now client.Cluster) []string {
	out := []string{}
	for _, n := range now.Nodes {
		switch {
		case n.Well():
		case n.State == "silent":
			ago := "was never heard"
			if n.Age >= 0 {
				ago = fmt.Sprintf("was last heard %s ago", duration(n.Age))
			}
			out = append(out, fmt.Sprintf("%s is silent: its xpd %s", n.ID, ago))
		default:
			out = append(out, fmt.Sprintf("%s is %s", n.ID, n.State))
		}
		if n.Doing != nil && n.Doing.Step != "" && n.Doing.Step != "done" {
			out = append(out, fmt.Sprintf("%s is busy: %s", n.ID, n.Doing.Step))
		}
		for _, note := range n.Notes {
			out = append(out, fmt.Sprintf("%s: %s", n.ID, note))
		}
	}
	return out
}

func silent(now client.Cluster) []pgcluster.NodeID {
	out := []pgcluster.NodeID{}
	for _, n := range now.Nodes {
		if n.State == "silent" && n.ID != now.SeenBy && !n.Well() {
			out = append(out, n.ID)
		}
	}
	return out
}

// takeBack is what ends that the cluster does without nodes, where that is in the way.
func takeBack(now client.Cluster) []string {
	var out []string
	if now.Held != "" && nodeOf(now, now.Primary).Absent != nil {
		out = append(out, fmt.Sprintf("pgctl switchover (a standby takes over from %s, which is fenced)", now.Primary))
	}
	for _, n := range now.Nodes {
		if a := n.Absent; a != nil && (now.Level == failover.LevelNoWrites || a.Kind == failover.AbsenceFence) {
			out = append(out, fmt.Sprintf("%s, once nothing speaks against it (%s)", a.Ends(n.ID), a))
		}
	}
	return out
}

// whatToDo is what to type next, the most useful first.
func whatToDo(now client.Cluster, plan failover.Plan) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	wait := now.Level == failover.LevelNoWrites
	if now.Paused != nil {
		add("pgctl resume (the cluster is paused until %s)", now.Paused.Until.UTC().Format(pauseEnd))
	}
	out = append(out, takeBack(now)...)
	missing := silent(now)
	if len(missing) > 0 {
		between := " and on "
		if wait && len(plan.Missing) > 0 {
			between = " or on "      // one may be enough
			if plan.Supposed == "" { // else it also misses the primary, which is there
				missing = plan.Missing
			}
		}
		add("on %s: systemctl start xpd (or mend the host, or its network)", names(missing, between))
	}
	if now.Op == nil || now.Op.Phase == failover.PhaseRecruit { // else the cluster sees to them by and by
		out = append(out, mend(now)...)
	}
	if plan.To == "" {
		out = append(out, permit(now, plan)...)
	}
	if wait && plan.Forced != nil && plan.Forced.Refused == "" && plan.Forced.Loss != nil && plan.To == "" {
		add("only if nobody can bring back %s: pgctl plan failover, then pgctl failover --accept-data-loss (%s)",
			names(plan.Missing, " or "), plan.Forced.Loss)
	} else if len(missing) > 0 && !wait {
		add("if %[1]s never returns: pgctl node replace %[1]s NAME=HOST", missing[0])
	}
	if len(out) == 0 && now.Op != nil {
		add("wait: pgctl status shows how far the %s is", now.Op.Kind)
	}
	if len(out) == 0 && now.Level != failover.LevelOK {
		add("pgctl status shows what each node says")
	}
	return out
}

// permit is what lets nodes be promoted that are there and that people ruled out.
func permit(now client.Cluster, plan failover.Plan) []string {
	var out []string
	for _, n := range plan.Nodes {
		if m, _ := memberOf(now, n.ID); m.NoFailover && n.State != "silent" {
			out = append(out, fmt.Sprintf("pgctl node set %s nofailover=false (then it may be promoted)", n.ID))
		}
	}
	return out
}

// mend is what helps nodes whose xpd is there and whose PostgreSQL is not as it should be.
func mend(now client.Cluster) []string {
	var out []string
	for _, n := range now.Nodes {
		if n.Absent != nil {
			continue // it is as people want it
		}
		switch n.State {
		case string(pgcluster.ProcessCrashed), string(pgcluster.ProcessStopped):
			out = append(out, fmt.Sprintf("on %s: read pg/log/postgres.log; xpd starts PostgreSQL again by itself", n.ID))
		case "cut off":
			if nodeOf(now, now.Primary).State == "open" {
				out = append(out, fmt.Sprintf("mend the network between %s and %s; if it is well, read pg/log/postgres.log on %s", n.ID, now.Primary, n.ID))
			}
		}
	}
	return out
}

// askEach asks every node what it is, all at once.
func askEach(ctx context.Context, env *env, members []client.ClusterMember) []askedNode {
	out := make([]askedNode, len(members))
	answers := fromEach(ctx, env, secondPatience, members, func(ctx context.Context, c *client.Client) (client.Cluster, error) { return c.Cluster(ctx) })
	for i, a := range answers {
		out[i] = askedNode{ID: members[i].ID, Voter: members[i].Voter}
		if a.err != nil {
			out[i].Error = cause(a.err, secondPatience)
			continue
		}
		out[i].Epoch, out[i].Writes, out[i].Self = a.got.Epoch, a.got.Writes, nodeOf(a.got, members[i].ID)
	}
	return out
}

// cause says in a few words why a node did not answer.
func cause(err error, wait time.Duration) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "its xpd does not run: the connection is refused"
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer within %s", wait)
	}
	return err.Error()
}

func printAsked(b *strings.Builder, nodes []askedNode) {
	rows := [][]string{{"NODE", "ANSWERS", "ROLE", "STATE", "TL", "LSN", "EPOCH"}}
	for _, n := range nodes {
		if n.Error != "" {
			rows = append(rows, []string{string(n.ID), "no", "?", "?", "?", "?", "?"})
			continue
		}
		rows = append(rows, []string{
			string(n.ID), "yes", string(n.Self.Role), n.Self.State, orUnknown(n.Self.Timeline), orUnknown(n.Self.LSN), strconv.FormatUint(n.Epoch, 10),
		})
	}
	table(b, rows, narrow{0, 6, shorten})
	for _, n := range nodes {
		if n.Error != "" {
			sentence(b, "  ", "%s: %s", n.ID, n.Error)
		} else if n.Self.Role == pgcluster.RolePrimary {
			sentence(b, "  ", "%s, which runs as primary: writes %s", n.ID, n.Writes)
		}
	}
}

// whatToDoAlone is what to type where no Raft leader is known.
func whatToDoAlone(w why) []string {
	var voters, there int
	var gone []pgcluster.NodeID
	for _, n := range w.Asked {
		if n.Voter {
			voters++
		}
		switch {
		case n.Error != "":
			gone = append(gone, n.ID)
		case n.Voter:
			there++
		}
	}
	majority := voters/2 + 1
	if there >= majority {
		return []string{
			fmt.Sprintf("%d of %d voters answer, which are enough: a leader is elected within seconds; then pgctl why", there, voters),
			"if none is: mend the network between the nodes; pgctl doctor shows who reaches whom",
		}
	}
	return []string{
		fmt.Sprintf("on %s: systemctl start xpd (%d of %d voters answer, and Raft needs %d)", names(gone, " or "), there, voters, majority),
		"pgctl why again: the cluster goes on by itself once Raft has a leader",
		fmt.Sprintf("only if %s never return: xpd recover on a node that is left (docs/operations.md, Restoring quorum)", names(gone, " and ")),
	}
}
