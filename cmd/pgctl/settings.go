package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// settingsCmd is what people choose for the whole cluster.
type settingsCmd struct {
	Show settingsShowCmd `cmd:"" default:"1" help:"Show the settings of the whole cluster."`
	Set  settingsSetCmd  `cmd:"" help:"Change settings of the whole cluster."`
	Diff settingsDiffCmd `cmd:"" help:"Show where nodes do not run with what is wanted, or two of them not alike. Exit code: 0 no difference, 1 some, 3 unknown."`
}

type settingsShowCmd struct{}

// Run prints the settings.
func (c *settingsShowCmd) Run(ctx context.Context, env *env) error {
	ctx, cancel := env.within(ctx, askTime)
	defer cancel()
	s, err := env.ask.ClusterSettings(ctx)
	if err != nil {
		return env.unanswered(err)
	}
	return env.print(s, settingsText(s)+applied(s))
}

func settingsText(s client.ClusterSettings) string {
	var b strings.Builder
	k := "k: half of the nodes (default)"
	if s.K != 0 {
		k = fmt.Sprintf("k: a commit waits for %d", s.K)
	}
	what := "writes wait when too few standbys are there"
	if s.Mode == failover.ModeAvailable {
		what = "writes go on with fewer standbys, in the end with none"
	}
	sentence(&b, "  ", "mode: %s (%s)", s.Mode, what)
	sentence(&b, "  ", "%s", k)
	for _, name := range slices.Sorted(maps.Keys(s.Postgres)) {
		fmt.Fprintf(&b, "%s = %s\n", name, s.Postgres[name])
	}
	return b.String()
}

type settingsSetCmd struct {
	Mode     string   `enum:"protect,available," default:"" help:"protect: writes wait when too few standbys are there. available: they go on, in the end with none."`
	K        int      `default:"-1" help:"How many standbys a commit waits for; 0 is half of the nodes."`
	Settings []string `arg:"" optional:"" name:"NAME=VALUE" help:"Settings of every node's PostgreSQL; NAME= takes one back."`
	Yes      bool     `short:"y" help:"Do not ask."`
	NoWait   bool     `help:"Do not wait until every node has taken them."`
	because
}

// Run changes the settings and returns once they are in force as far as that goes without
// a restart. It asks before writes may be acknowledged on fewer nodes.
func (c *settingsSetCmd) Run(ctx context.Context, env *env) error {
	change, err := c.change()
	if err != nil {
		return err
	}
	before, err := c.before(ctx, env)
	if err != nil {
		return err
	}
	if err := c.confirm(ctx, env, before); err != nil {
		return err
	}
	ctx, cancel := env.within(ctx, switchoverTime)
	defer cancel()
	s, err := env.act.ChangeClusterSettings(ctx, change)
	if err != nil {
		return notDone(err)
	}
	if c.NoWait {
		return env.print(s, settingsText(s)+"every node takes them by itself; pgctl settings shows how far they are\n")
	}
	overtaken := false
	now, err := lookUntil(ctx, env, "the settings were in force", env.ask.ClusterSettings, func(now client.ClusterSettings) (bool, string) {
		overtaken = neither(now, s, before, change)
		missing := notInForce(now, s, change)
		return overtaken || missing == "", missing
	})
	if err != nil {
		return err
	}
	if err := env.print(now, settingsText(now)+applied(now)); err != nil {
		return err
	}
	if overtaken {
		return fmt.Errorf("somebody else has changed k or mode since, and that counts\npgctl audit shows who")
	}
	if name := refused(now, change); name != "" {
		return fmt.Errorf("PostgreSQL does not take %s and runs without it\n"+
			"pgctl settings set %s=VALUE gives another value, %s= takes it back", name, name, name)
	}
	return nil
}

// before returns the settings that k and mode are changed from; of a change of neither,
// nothing.
func (c *settingsSetCmd) before(ctx context.Context, env *env) (client.ClusterSettings, error) {
	if c.K < 0 && c.Mode == "" {
		return client.ClusterSettings{}, nil
	}
	ctx, cancel := env.within(ctx, askTime)
	defer cancel()
	s, err := env.ask.ClusterSettings(ctx)
	if err != nil {
		return s, env.unanswered(err)
	}
	return s, nil
}

// confirm returns nil if nothing that is acknowledged gets less safe, or if somebody says y.
func (c *settingsSetCmd) confirm(ctx context.Context, env *env, before client.ClusterSettings) error {
	if c.Yes {
		return nil
	}
	if c.Mode == string(failover.ModeAvailable) {
		return env.confirmed(ctx, "Go on with mode available?\nAn acknowledged write may then be on one node only, and lost with it.")
	}
	if c.K < 0 || c.K == before.K {
		return nil
	}
	k, to := c.K, fmt.Sprint(c.K)
	if c.K == 0 {
		var err error
		if k, err = defaultK(ctx, env); err != nil {
			return err
		}
		to = "by default"
	}
	now := ""
	if before.Nodes != nil { // by an xpd that says what k comes to
		if k >= before.KWanted {
			return nil
		}
		now = fmt.Sprintf(" It is %d now.", before.KWanted)
	}
	return env.confirmed(ctx, "Go on with k %s?%s\nAn acknowledged write may then be on fewer nodes.", to, now)
}

// defaultK is what k 0 comes to: half of the nodes that may be waited for.
func defaultK(ctx context.Context, env *env) (int, error) {
	ctx, cancel := env.within(ctx, askTime)
	defer cancel()
	cluster, err := env.ask.Cluster(ctx)
	if err != nil {
		return 0, env.unanswered(err)
	}
	n := 0
	for _, m := range cluster.Members {
		if !m.Witness && !m.NoSync && !m.Leaving {
			n++
		}
	}
	return max(1, n/2), nil
}

// neither reports whether of what change names something is neither what it was before
// nor what the change, accepted as s, made it: somebody else was there since.
func neither(now, s, before client.ClusterSettings, change client.SettingsChange) bool {
	return change.K != nil && now.K != s.K && now.K != before.K ||
		change.Mode != nil && now.Mode != s.Mode && now.Mode != before.Mode
}

// notInForce says what of a change that was accepted as s the cluster has not done yet, by
// what a node says now; "" if it has. Nodes that are silent follow when they are back.
func notInForce(now, s client.ClusterSettings, change client.SettingsChange) string {
	if now.Version < s.Version || change.K != nil && now.K != s.K || change.Mode != nil && now.Mode != s.Mode {
		return "the node that answers has not heard of it yet"
	}
	var behind []pgcluster.NodeID
	for _, n := range now.Nodes {
		if change.Postgres != nil && !n.Silent && n.Version < s.Version {
			behind = append(behind, n.Node)
		}
	}
	switch {
	case len(behind) > 0:
		return "not loaded yet on " + names(behind, ", ")
	case (change.K != nil || change.Mode != nil) && now.Mode == failover.ModeProtect && now.KInForce != now.KWanted:
		return fmt.Sprintf("commits wait for %d, and are to wait for %d", now.KInForce, now.KWanted)
	}
	return ""
}

// refused returns the name of a setting of change that some PostgreSQL does not take, or
// "". What a silent node said last was of the settings before.
func refused(now client.ClusterSettings, change client.SettingsChange) string {
	for _, name := range slices.Sorted(maps.Keys(change.Postgres)) {
		for _, n := range now.Nodes {
			if !n.Silent && slices.ContainsFunc(n.Refused, func(r string) bool { return strings.HasPrefix(r, name+"=") }) {
				return name
			}
		}
	}
	return ""
}

// applied says what keeps nodes from running with the settings.
func applied(s client.ClusterSettings) string {
	var b strings.Builder
	waits, refuse := map[string][]pgcluster.NodeID{}, map[string][]pgcluster.NodeID{}
	for _, n := range s.Nodes {
		if n.Silent {
			sentence(&b, "  ", "%s is silent, and takes the settings when it is back", n.Node)
			continue
		}
		if n.Version < s.Version {
			sentence(&b, "  ", "%s has not loaded them yet", n.Node)
		}
		for _, r := range n.Refused {
			refuse[r] = append(refuse[r], n.Node)
		}
		if len(n.Pending) > 0 {
			what := strings.Join(n.Pending, ", ")
			waits[what] = append(waits[what], n.Node)
		}
	}
	for _, what := range slices.Sorted(maps.Keys(refuse)) {
		sentence(&b, "  ", "PostgreSQL on %s runs without what it refuses: %s", names(refuse[what], ", "), what)
	}
	for _, what := range slices.Sorted(maps.Keys(waits)) {
		sentence(&b, "  ", "%s: waits for a restart on %s", what, names(waits[what], ", "))
	}
	if len(waits) > 0 {
		sentence(&b, "  ", "pgctl restart --all restarts them one after the other")
	}
	return b.String()
}

func (c *settingsSetCmd) change() (client.SettingsChange, error) {
	out := client.SettingsChange{Reason: c.Reason}
	if c.Mode != "" {
		out.Mode = new(failover.Mode(c.Mode))
	}
	if c.K >= 0 {
		out.K = &c.K
	}
	for _, s := range c.Settings {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return out, fmt.Errorf("setting %q: want NAME=VALUE, or NAME= to take it back", s)
		}
		if out.Postgres == nil {
			out.Postgres = map[string]*string{}
		}
		out.Postgres[name] = nil
		if value != "" {
			out.Postgres[name] = &value
		}
	}
	if out.Mode == nil && out.K == nil && out.Postgres == nil {
		return out, fmt.Errorf("nothing to change: want --mode, --k or NAME=VALUE")
	}
	return out, nil
}
