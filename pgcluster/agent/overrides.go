package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/pgcluster"
)

// What is reported of overrides: for how long, and how many.
const (
	rememberOverrides = time.Hour
	maxOverrides      = 20
)

// override is a setting of the agent's that somebody else changed.
type override struct {
	text string
	at   time.Time
}

const (
	overridesFrom = `
FROM pg_file_settings
WHERE sourcefile = current_setting('data_directory') || '/postgresql.auto.conf' AND lower(name) = ANY ($1)`

	overridesSQL = "SELECT DISTINCT ON (lower(name)) lower(name), coalesce(setting, '')" + overridesFrom + " ORDER BY lower(name), seqno DESC"

	// One query, for clients wait for it; and the files are not read before a promotion.
	roleAndOverridesSQL = "SELECT pg_is_in_recovery(), NOT pg_is_in_recovery() AND EXISTS (SELECT" + overridesFrom + ")"
)

// overridable are the settings that undoOverrides takes back, whatever their value: what
// people may choose of them goes through the agent.
func (a *Agent) overridable() []string {
	return append(slices.Concat(a.ownedSettings(), pgcluster.Timers()), "wal_level")
}

// roleAndOverrides reports whether the server is in recovery and, of a primary, whether
// somebody has changed what is the agent's, and that has not been mended in full.
func (a *Agent) roleAndOverrides(ctx context.Context) (recovering, overridden bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := a.admin(ctx)
	if err != nil {
		return false, false, err
	}
	if err := conn.QueryRow(ctx, roleAndOverridesSQL, a.overridable()).Scan(&recovering, &overridden); err != nil {
		return false, false, fmt.Errorf("ask for the role: %w", err)
	}
	// The file may be in order because lookAfter has just seen to it.
	return recovering, overridden || a.conf.undoing.Load() || a.state.get().Settings.Arming, nil
}

// dropOverrides is undoOverrides of the reconcile loop.
func (a *Agent) dropOverrides(ctx context.Context) error {
	conn, err := a.admin(ctx)
	if err != nil {
		return err
	}
	return a.undoOverrides(ctx, conn)
}

// undoOverrides takes back what somebody set with ALTER SYSTEM although it is the
// agent's. With the rule of synchronous commits overridden, PostgreSQL acknowledges
// commits that no standby has; a clone inherits such settings, too.
func (a *Agent) undoOverrides(ctx context.Context, conn *pgx.Conn) error {
	// Not ended by an order that comes meanwhile: what is taken back in the file alone
	// would be in force on, and not be found again.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
	defer cancel()
	rows, err := conn.Query(ctx, overridesSQL, a.overridable())
	if err != nil {
		return fmt.Errorf("look for ALTER SYSTEM: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Name, Value string }])
	if err != nil {
		return fmt.Errorf("look for ALTER SYSTEM: %w", err)
	}
	if len(found) == 0 {
		if !a.conf.undoing.Load() {
			return nil
		}
		return a.undo(true) // the answer to the statement that took it back was not heard
	}
	var names, texts []string
	for _, f := range found {
		if f.Name == "primary_conninfo" {
			f.Value = "(hidden)" // there may be a password in it
		}
		names, texts = append(names, f.Name), append(texts, f.Name+"="+f.Value)
	}
	a.log.ErrorContext(ctx, "settings that xpd owns were changed by ALTER SYSTEM, taking them back; "+
		"commits of the meantime may be on this node only", "settings", strings.Join(texts, ","))
	a.noteOverrides(texts...)
	if srv := a.running(); srv != nil && slices.Contains(names, "primary_conninfo") {
		srv.tampered.Store(true)
	}
	a.conf.undoing.Store(true)
	for _, name := range names {
		if _, err := conn.Exec(ctx, "ALTER SYSTEM RESET "+name); err != nil {
			return fmt.Errorf("undo ALTER SYSTEM: %w", err)
		}
	}
	return a.undo(slices.Contains(names, "synchronous_standby_names"))
}

// undo brings into force what was taken back in the file. Without the rule, nobody may
// wait by it until it was armed; who is arming it now began too early.
func (a *Agent) undo(rule bool) error {
	a.conf.undone.Add(1)
	if err := a.apply(func(s *settings) { s.Arming = s.Arming || rule }); err != nil {
		return err
	}
	a.conf.undoing.Store(false)
	return nil
}

// noteOverrides reports overrides for a while.
func (a *Agent) noteOverrides(texts ...string) {
	now := time.Now()
	a.conf.mu.Lock()
	for _, text := range texts {
		if n := len(a.conf.overrides); n == 0 || a.conf.overrides[n-1].text != text {
			a.conf.overrides = append(a.conf.overrides, override{text, now})
		}
	}
	a.conf.mu.Unlock()
	a.reportOverrides(now)
}

// reportOverrides drops what is too old from the report.
func (a *Agent) reportOverrides(now time.Time) {
	a.conf.mu.Lock()
	recent := slices.DeleteFunc(a.conf.overrides, func(o override) bool { return now.Sub(o.at) > rememberOverrides })
	recent = recent[max(0, len(recent)-maxOverrides):]
	a.conf.overrides = recent
	var list []string
	for _, o := range recent {
		list = append(list, o.text+" at "+o.at.UTC().Format(time.RFC3339))
	}
	a.conf.mu.Unlock()
	a.publish(func(r *pgcluster.Report) { r.Overrides = list })
}
