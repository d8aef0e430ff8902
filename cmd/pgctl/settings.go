package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
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
	return env.print(s, settingsText(s))
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
	because
}

// Run changes the settings. It asks before writes may be acknowledged on fewer nodes.
func (c *settingsSetCmd) Run(ctx context.Context, env *env) error {
	change, err := c.change()
	if err != nil {
		return err
	}
	if c.Mode == string(failover.ModeAvailable) && !c.Yes {
		if err := env.confirmed(ctx, "Go on with mode available?\nAn acknowledged write may then be on one node only, and lost with it."); err != nil {
			return err
		}
	}
	ctx, cancel := env.within(ctx, changeTime)
	defer cancel()
	s, err := env.act.ChangeClusterSettings(ctx, change)
	if err != nil {
		return notDone(err)
	}
	return env.print(s, settingsText(s))
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
