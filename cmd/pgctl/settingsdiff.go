package main

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/pgcluster"
)

type settingsDiffCmd struct {
	Node  string `arg:"" optional:"" help:"One node, against what is wanted; otherwise all of them."`
	Other string `arg:"" optional:"" help:"Compare the node with this one instead."`
}

// settingsDiff is where nodes differ from what is wanted.
type settingsDiff struct {
	Version     uint64              `json:"version"` // of what is wanted
	Differences []settingDifference `json:"differences"`
	Unanswered  []unansweredNode    `json:"unanswered"`
}

type unansweredNode struct {
	Node  pgcluster.NodeID `json:"node"`
	Error string           `json:"error"`
}

// settingDifference is a setting that is not as it should be.
type settingDifference struct {
	Node   pgcluster.NodeID `json:"node"`
	Name   string           `json:"name"`
	Wanted string           `json:"wanted"` // "" if the cluster wants nothing: PostgreSQL's own or this host's
	Runs   string           `json:"runs"`   // "" if it is PostgreSQL's default
	Why    string           `json:"why"`
	Do     string           `json:"do"`
}

// nodesDiff is where two nodes differ from each other.
type nodesDiff struct {
	Nodes       [2]pgcluster.NodeID `json:"nodes"`
	Differences []unequal           `json:"differences"`
	Unanswered  []unansweredNode    `json:"unanswered"`
}

// unequal is what each of the two runs with; "" is PostgreSQL's default.
type unequal struct {
	Name   string    `json:"name"`
	Values [2]string `json:"values"`
}

// Run prints the differences, and exits with 1 if there is one, or with 3 if nobody knows.
func (c *settingsDiffCmd) Run(ctx context.Context, env *env) error {
	ctx, cancel := env.within(ctx, askTime)
	defer cancel()
	cluster, err := env.cluster(ctx)
	if err != nil {
		return err
	}
	members, err := c.members(cluster)
	if err != nil {
		return err
	}
	wanted, err := env.ask.ClusterSettings(ctx)
	if err != nil {
		return env.unanswered(err)
	}
	answers, unanswered := askSettings(ctx, env, members)
	var differences int
	if c.Other == "" {
		d := settingsDiff{Version: wanted.Version, Differences: []settingDifference{}, Unanswered: unanswered}
		for _, n := range answers {
			d.Differences = append(d.Differences, fromWanted(wanted, n)...)
		}
		differences, err = len(d.Differences), env.print(d, d.text())
	} else {
		d := nodesDiff{Nodes: [2]pgcluster.NodeID{members[0].ID, members[1].ID}, Differences: []unequal{}, Unanswered: unanswered}
		if len(answers) == len(members) {
			d.Differences = append(d.Differences, between(answers[0], answers[1])...)
		}
		differences, err = len(d.Differences), env.print(d, d.text())
	}
	switch {
	case err != nil:
		return err
	case differences > 0:
		return exitError{code: exitDegraded}
	case len(unanswered) > 0:
		return exitError{code: exitUnknown}
	}
	return nil
}

// askSettings asks the members what they run with.
func askSettings(ctx context.Context, env *env, members []client.ClusterMember) ([]client.NodeSettings, []unansweredNode) {
	var answers []client.NodeSettings
	unanswered := []unansweredNode{}
	// PostgreSQL answers them, which may have to be connected to first.
	asked := fromEach(ctx, env, patience, members, func(ctx context.Context, c *client.Client) (client.NodeSettings, error) { return c.NodeSettings(ctx) })
	for i, a := range asked {
		switch id := members[i].ID; {
		case a.err != nil:
			unanswered = append(unanswered, unansweredNode{id, cause(env.way.Explain(a.err), patience)})
		case a.got.Node != id:
			unanswered = append(unanswered, unansweredNode{id, fmt.Sprintf("%s answers at its address", a.got.Node)})
		default:
			answers = append(answers, a.got)
		}
	}
	return answers, unanswered
}

// members are those to be compared.
func (c *settingsDiffCmd) members(cluster client.Cluster) ([]client.ClusterMember, error) {
	var out []client.ClusterMember
	for _, m := range cluster.Members {
		if c.Node == "" && !m.Witness {
			out = append(out, m)
		}
	}
	for _, name := range []string{c.Node, c.Other} {
		if name == "" {
			continue
		}
		m, known := memberOf(cluster, pgcluster.NodeID(name))
		switch {
		case !known:
			return nil, fmt.Errorf("there is no node %s\npgctl status lists them", name)
		case m.Witness:
			return nil, fmt.Errorf("%s is a witness and has no PostgreSQL", name)
		}
		out = append(out, m)
	}
	return out, nil
}

// fromWanted lists where a node is not as the cluster's settings say, and what was set
// there by hand.
func fromWanted(wanted client.ClusterSettings, n client.NodeSettings) []settingDifference {
	runs := byName(n)
	var out []settingDifference
	for _, name := range slices.Sorted(maps.Keys(wanted.Postgres)) {
		d := settingDifference{Node: n.Node, Name: name, Wanted: wanted.Postgres[name], Runs: runs[name].Value}
		if d.judge(runs[name], wanted, n) {
			out = append(out, d)
		}
	}
	for _, s := range n.Settings {
		if _, known := wanted.Postgres[s.Name]; known {
			continue
		}
		d := settingDifference{Node: n.Node, Name: s.Name, Runs: s.Value}
		if d.judge(s, wanted, n) {
			out = append(out, d)
		}
	}
	for _, o := range n.Overrides {
		out = append(out, settingDifference{
			Node: n.Node, Name: o, Runs: "xpd's own", Why: "taken back", Do: "nothing: ALTER SYSTEM of what is xpd's own was undone; tell whoever did it",
		})
	}
	return out
}

// judge says why d is a difference, if it is one.
func (d *settingDifference) judge(s pgcluster.RunningSetting, wanted client.ClusterSettings, n client.NodeSettings) bool {
	set := d.Wanted != ""
	refusal := slices.IndexFunc(n.Refused, func(r string) bool { return set && strings.HasPrefix(r, d.Name+"="+d.Wanted+": ") })
	switch {
	case refusal >= 0:
		_, why, _ := strings.Cut(n.Refused[refusal], ": ")
		d.Why, d.Do = "refused", fmt.Sprintf("PostgreSQL does not take %s=%s: %s; pgctl settings set %s=VALUE", d.Name, d.Wanted, why, d.Name)
	case path.Base(s.File) == "postgresql.auto.conf" && (!set || s.Written != d.Wanted):
		d.Why = "ALTER SYSTEM"
		d.Do = fmt.Sprintf("in psql on %s: ALTER SYSTEM RESET %s; SELECT pg_reload_conf()", d.Node, d.Name)
	case set && n.Version < wanted.Version && s.Written != d.Wanted:
		d.Why, d.Do = "not applied yet", fmt.Sprintf("wait; if it stays, look at what pgctl status says of %s", d.Node)
	case s.Pending:
		d.Why, d.Do = "restart", fmt.Sprintf("pgctl restart %s (%s waits for it), or --all", d.Node, d.Name)
	case set && s.Written != d.Wanted:
		d.Why, d.Do = "raised", fmt.Sprintf("%s keeps %s=%s until the primary has less: pgctl restart --all", d.Node, d.Name, s.Written)
	}
	return d.Why != ""
}

func byName(n client.NodeSettings) map[string]pgcluster.RunningSetting {
	out := map[string]pgcluster.RunningSetting{}
	for _, s := range n.Settings {
		out[s.Name] = s
	}
	return out
}

// between lists what the two nodes do not run with alike.
func between(a, b client.NodeSettings) []unequal {
	here, there := byName(a), byName(b)
	names := maps.Clone(here)
	maps.Copy(names, there)
	var out []unequal
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if values := [2]string{here[name].Value, there[name].Value}; values[0] != values[1] {
			out = append(out, unequal{name, values})
		}
	}
	return out
}

func (d settingsDiff) text() string {
	var b strings.Builder
	rows := [][]string{{"NODE", "SETTING", "WANTED", "RUNS WITH", "WHY"}}
	var do []string
	for _, s := range d.Differences {
		rows = append(rows, []string{string(s.Node), s.Name, orDash(s.Wanted), orDefault(s.Runs), s.Why})
		if !slices.Contains(do, s.Do) {
			do = append(do, s.Do)
		}
	}
	switch {
	case len(d.Differences) > 0:
		table(&b, rows, narrow{2, 12, cut}, narrow{3, 12, cut}, narrow{0, 6, shorten}, narrow{1, 12, cut})
	case len(d.Unanswered) == 0:
		fmt.Fprintf(&b, "all is as wanted (version %d)\n", d.Version)
	}
	notCompared(&b, d.Unanswered)
	if len(do) > 0 {
		b.WriteString("\nwhat to do:\n")
	}
	for i, what := range do {
		sentence(&b, "     ", "%d. %s", i+1, what)
	}
	return b.String()
}

func (d nodesDiff) text() string {
	var b strings.Builder
	rows := [][]string{{"SETTING", string(d.Nodes[0]), string(d.Nodes[1])}}
	for _, u := range d.Differences {
		rows = append(rows, []string{u.Name, orDefault(u.Values[0]), orDefault(u.Values[1])})
	}
	switch {
	case len(d.Differences) > 0:
		table(&b, rows, narrow{1, 20, cut}, narrow{2, 20, cut}, narrow{0, 20, cut})
	case len(d.Unanswered) == 0:
		sentence(&b, "  ", "%s and %s run with the same settings", d.Nodes[0], d.Nodes[1])
	}
	notCompared(&b, d.Unanswered)
	return b.String()
}

func notCompared(b *strings.Builder, nodes []unansweredNode) {
	for _, u := range nodes {
		sentence(b, "  ", "%s is not compared: %s", u.Node, u.Error)
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func orDefault(s string) string {
	if s == "" {
		return "(default)"
	}
	return s
}
