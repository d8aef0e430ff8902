package failover

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/xpd-platform/xpd/pgcluster"
)

// maxSettings bounds how many settings a cluster may have.
const maxSettings = 200

// Configure returns the state with new settings of the whole cluster: who goes first,
// how many standbys a commit waits for (0: the default), and PostgreSQL's settings on
// every node. What is not given is not set. Every node writes its settings and reloads
// by itself; the steps to another k follow, one by one. It returns a *RefusedError for
// settings that cannot be, that an agent owns, or while an operation is under way,
// unless nothing but the mode changes: that may be what lets it end.
func Configure(s State, v View, _ Policy, mode Mode, k int, postgres map[string]string) (State, error) {
	if mode == "" {
		mode = ModeProtect
	}
	if mode != ModeProtect && mode != ModeAvailable {
		return s, &RefusedError{fmt.Sprintf("there is no mode %q: want %s or %s", mode, ModeProtect, ModeAvailable)}
	}
	switch most := s.waitableMembers() - 1; {
	case k < 0 || (k > 0 && k > most):
		return s, &RefusedError{fmt.Sprintf("k = %d: want 0 for the default, or 1 to %d standbys to wait for", k, most)}
	case mode == ModeProtect && s.Settings.Mode == ModeAvailable && most < 1:
		return s, &RefusedError{"no standby is there that a commit could wait for: add a node, or take nosync from one, first"}
	}
	if refusal := refuseSettings(postgres); refusal != "" {
		return s, &RefusedError{refusal}
	}
	changes := s.Settings.changes(mode, k, postgres)
	if len(changes) == 0 {
		return s, nil
	}
	onlyMode := k == s.Settings.K && maps.Equal(postgres, s.Settings.Postgres)
	if s.Op != nil && !onlyMode {
		return s, &RefusedError{fmt.Sprintf("a %s is under way (phase %s)", s.Op.Kind, s.Op.Phase)}
	}
	d := decision{s: s.clone(), v: v}
	set := &d.s.Settings
	if !maps.Equal(postgres, set.Postgres) {
		set.Postgres = maps.Clone(postgres)
		if len(postgres) == 0 {
			set.Postgres = nil
		}
		set.Version = d.newest() + 1
	}
	set.Mode, set.K = mode, k
	d.record(Event{At: v.Wall, Epoch: s.Primary.Epoch, Kind: "settings", Reason: strings.Join(changes, "; ")})
	return d.s, nil
}

func (s State) waitableMembers() int {
	return len(slices.DeleteFunc(slices.Clone(s.Members), func(m pgcluster.Member) bool { return !waitable(m) }))
}

func refuseSettings(postgres map[string]string) string {
	if len(postgres) > maxSettings {
		return fmt.Sprintf("%d settings: want %d at most", len(postgres), maxSettings)
	}
	for _, name := range slices.Sorted(maps.Keys(postgres)) {
		switch value := postgres[name]; {
		case !pgcluster.ValidSettingName(name):
			return fmt.Sprintf("%q is no name of a setting", name)
		case pgcluster.OwnedSetting(name):
			return fmt.Sprintf("%s is set by xpd alone", name)
		case !pgcluster.ValidSettingValue(value):
			return fmt.Sprintf("%s: want a value of one line and up to 1024 bytes", name)
		case pgcluster.Unbearable(name, value) != "":
			return fmt.Sprintf("%s: %s", name, pgcluster.Unbearable(name, value))
		}
	}
	return ""
}

// changes tells what is different from set, a phrase each.
func (set Settings) changes(mode Mode, k int, postgres map[string]string) []string {
	var out []string
	was := set.Mode
	if was == "" {
		was = ModeProtect
	}
	if was != mode {
		out = append(out, fmt.Sprintf("mode %s, was %s", mode, was))
	}
	number := func(k int) string {
		if k == 0 {
			return "by default"
		}
		return fmt.Sprint(k)
	}
	if set.K != k {
		out = append(out, fmt.Sprintf("k %s, was %s", number(k), number(set.K)))
	}
	all := maps.Clone(set.Postgres)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, postgres)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if now, was := quoted(postgres, name), quoted(set.Postgres, name); now != was {
			out = append(out, fmt.Sprintf("%s %s, was %s", name, now, was))
		}
	}
	return out
}

func quoted(values map[string]string, name string) string {
	if v, ok := values[name]; ok {
		return fmt.Sprintf("%q", v)
	}
	return "by default"
}
