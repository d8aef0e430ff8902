package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// errUnconfirmed is a configuration in the files that the server may not have read.
var errUnconfirmed = errors.New("configuration not read by PostgreSQL yet")

// layers returns the settings that people chose, of which a later layer wins: what
// an adopted server had, this host's own, the cluster's.
func (a *Agent) layers() []map[string]string {
	a.conf.mu.Lock()
	agreed := a.conf.agreed.Settings
	a.conf.mu.Unlock()
	all := []map[string]string{a.o.Settings, agreed}
	if ad := a.adopted(); ad != nil {
		settings := maps.Clone(ad.Settings)
		for name := range tlsSettings(a.o, a.p) {
			delete(settings, name) // it had certificates of its own
		}
		all = append([]map[string]string{settings}, all...)
	}
	return all
}

// chosen returns the settings that people chose and PostgreSQL takes.
func (a *Agent) chosen() map[string]string {
	layers := a.layers()
	proven := a.state.get().Proven
	a.conf.mu.Lock()
	defer a.conf.mu.Unlock()
	if a.conf.doubted && proven != nil {
		return *proven
	}
	all := map[string]string{}
	if a.conf.doubted {
		return all
	}
	for _, layer := range layers {
		for name, value := range layer {
			if _, bad := a.conf.refused[setting{name, value}]; !bad {
				all[name] = value
			}
		}
	}
	return all
}

// options returns the options with everything that has changed since the start.
func (a *Agent) options() Options {
	o := a.o
	o.Members, o.Settings = a.members(), a.chosen()
	a.conf.mu.Lock()
	defer a.conf.mu.Unlock()
	o.Settings = raised(o.Settings, a.conf.floors)
	return o
}

// configure checks the agreed configuration, saves it and brings the files and the
// server up to date.
func (a *Agent) configure(ctx context.Context) error {
	a.conf.mu.Lock()
	agreed := a.conf.agreed
	a.conf.mu.Unlock()
	if known := a.state.get().Config; agreed.Version > 0 || len(agreed.Members) > 0 {
		if known == nil || known.Version != agreed.Version || !known.Equal(agreed) {
			if _, err := a.save(func(s *saved) { s.Config = &agreed }); err != nil {
				return err
			}
		}
	}
	if err := a.vet(ctx); err != nil {
		return err
	}
	before := time.Now()
	if err := a.apply(func(*settings) {}); err != nil {
		return err
	}
	if a.running() == nil || a.isForeign() {
		return nil
	}
	return a.confirm(ctx, before, agreed.Version)
}

// confirm reports a version of the configuration together with the settings that wait
// for a restart because of it, once the server has reloaded its files.
func (a *Agent) confirm(ctx context.Context, before time.Time, version uint64) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := a.connect(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnconfirmed, err)
	}
	defer closeConn(ctx, conn)
	err = until(ctx, 10*time.Millisecond, func(ctx context.Context) (bool, error) {
		var loaded time.Time
		err := conn.QueryRow(ctx, "SELECT pg_conf_load_time()").Scan(&loaded)
		return !loaded.Before(before.Truncate(time.Microsecond)), err
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errUnconfirmed, err)
	}
	waits, err := findWaiting(ctx, conn)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnconfirmed, err)
	}
	a.publish(func(r *pgcluster.Report) {
		r.Config = version
		waits.report(r)
	})
	return nil
}

// maxKnown bounds how many answers of PostgreSQL are kept.
const maxKnown = 1000

// vet finds out which of the chosen settings PostgreSQL does not take. One that it
// does not take would keep it from starting, and some keep a reload from changing
// anything, the rule of synchronous commits included.
func (a *Agent) vet(ctx context.Context) error {
	layers := a.layers()
	a.conf.mu.Lock()
	known := maps.Clone(a.conf.known)
	a.conf.mu.Unlock()
	if len(known) > maxKnown {
		clear(known)
	}
	var unknown []setting
	for _, layer := range layers {
		for name, value := range layer {
			if _, ok := known[setting{name, value}]; !ok {
				unknown = append(unknown, setting{name, value})
			}
		}
	}
	answers, err := a.ask(ctx, unknown)
	if err != nil {
		return err
	}
	maps.Copy(known, answers)
	refused := map[setting]string{}
	for _, layer := range layers {
		for name, value := range layer {
			if reason := known[setting{name, value}]; reason != "" {
				refused[setting{name, value}] = reason
			}
		}
	}
	a.conf.mu.Lock()
	news := !maps.Equal(a.conf.refused, refused)
	a.conf.known, a.conf.refused = known, refused
	a.conf.mu.Unlock()
	if news && len(refused) > 0 {
		a.log.ErrorContext(ctx, "settings that PostgreSQL does not take are left out", "settings", strings.Join(a.complaints(), "; "))
	}
	return nil
}

// ask returns for each setting why it cannot be had, or "".
func (a *Agent) ask(ctx context.Context, all []setting) (map[setting]string, error) {
	answers := map[setting]string{}
	var ours []setting
	for _, s := range all {
		answers[s] = s.objection()
		if _, taken := tlsSettings(a.o, a.p)[s.name]; taken {
			answers[s] = "managed by the agent where xpd has --tls-dir"
		}
		if answers[s] == "" {
			ours = append(ours, s)
		}
	}
	reason, err := a.tryOut(ctx, ours...)
	if err != nil || reason == "" {
		return answers, err
	}
	for _, s := range ours { // who of them?
		if answers[s], err = a.tryOut(ctx, s); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// least is what a cluster cannot do with less of: slots of an epoch beside those that
// they are copied from, standbys and copies, and the agents' own sessions.
var least = map[string]int{ //nolint:gochecknoglobals // a constant table
	"max_replication_slots": 16, "max_wal_senders": 8, "superuser_reserved_connections": 5,
}

// objection returns what xpd itself has against a setting, or "".
func (s setting) objection() string {
	if want, ok := least[s.name]; ok {
		if n, err := strconv.Atoi(s.value); err == nil && n < want {
			return fmt.Sprintf("a cluster needs at least %d", want)
		}
	}
	switch {
	case !pgcluster.ValidSettingName(s.name):
		return "not the name of a setting"
	case pgcluster.OwnedSetting(s.name):
		return "managed by the agent"
	case s.name == "wal_level" && s.value != "replica" && s.value != "logical":
		return "a cluster needs replica or logical"
	case !pgcluster.ValidSettingValue(s.value):
		return "a configuration file cannot hold this value"
	}
	return pgcluster.Unbearable(s.name, s.value)
}

// tryOutTimeout is generous: it is a program that starts and ends.
const tryOutTimeout = 10 * time.Second

// tryOut asks PostgreSQL itself, without a data directory, and returns why it would
// not start with the settings, or "".
func (a *Agent) tryOut(ctx context.Context, all ...setting) (string, error) {
	if len(all) == 0 {
		return "", nil
	}
	// Without the time and the process in front of each line, all nodes say the same.
	args := []string{"-C", "port", "-D", a.p.pg, "--config-file=/dev/null", "-c", "log_line_prefix="}
	for _, s := range all {
		args = append(args, "-c", s.name+"="+s.value)
	}
	ctx, cancel := context.WithTimeout(ctx, tryOutTimeout)
	defer cancel()
	err := a.runTool(ctx, "", "postgres", args...)
	if err == nil {
		return "", nil
	}
	if _, reason, found := strings.Cut(err.Error(), "FATAL:  "); found && ctx.Err() == nil {
		return reason, nil
	}
	return "", fmt.Errorf("check settings: %w", err)
}

// complaints tells people which settings are left out, and why.
func (a *Agent) complaints() []string {
	proven := map[string]string{}
	st := a.state.get()
	if st.Proven != nil {
		proven = *st.Proven
	}
	layers, ad := a.layers(), a.adopted()
	a.conf.mu.Lock()
	defer a.conf.mu.Unlock()
	var all []string
	for s, reason := range a.conf.refused {
		all = append(all, fmt.Sprintf("%s=%s: %s", s.name, s.value, reason))
	}
	if a.conf.doubted {
		if ad != nil && len(ad.HBA) > 0 {
			all = append(all, "pg_hba.conf: PostgreSQL did not start with the adopted rules")
		}
		for _, layer := range layers {
			for name, value := range layer {
				if old, ok := proven[name]; !ok || old != value {
					all = append(all, fmt.Sprintf("%s=%s: PostgreSQL did not start with it", name, value))
				}
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// doubted reports whether the next start is without the newest settings.
func (a *Agent) doubted() bool {
	a.conf.mu.Lock()
	defer a.conf.mu.Unlock()
	return a.conf.doubted
}

// launching notes with what a server is about to be started.
func (a *Agent) launching() {
	chosen := a.chosen()
	a.conf.mu.Lock()
	defer a.conf.mu.Unlock()
	a.conf.launched = chosen
}

// prove notes that a server which was started with certain settings answers.
func (a *Agent) prove() error {
	a.conf.mu.Lock()
	launched := a.conf.launched
	a.conf.mu.Unlock()
	if known := a.state.get().Proven; launched == nil || (known != nil && maps.Equal(*known, launched)) {
		return nil
	}
	_, err := a.save(func(s *saved) { s.Proven = &launched })
	return err
}

// doubt is told of a server that died. If it never answered and had settings that no
// server has served with, the next one is started without them; if that dies too,
// they were not the reason.
func (a *Agent) doubt(ctx context.Context) {
	if a.Report().Process != pgcluster.ProcessStarting {
		return
	}
	st := a.state.get()
	ad := a.adopted()
	rules := ad != nil && len(ad.HBA) > 0
	a.conf.mu.Lock()
	launched := a.conf.launched
	switch {
	case a.conf.doubted:
		a.conf.doubted = false
	case st.Proven != nil:
		a.conf.doubted = launched != nil && !maps.Equal(launched, *st.Proven)
	default:
		a.conf.doubted = len(launched) > 0 || rules
	}
	doubted := a.conf.doubted
	a.conf.mu.Unlock()
	if doubted {
		a.log.ErrorContext(ctx, "PostgreSQL did not start, trying without its new settings",
			"settings", strings.Join(a.complaints(), "; "))
	}
}
