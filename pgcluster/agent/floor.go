package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// standbyFloors are settings of which a standby needs at least what the WAL says that
// its primary has, and their names in pg_controldata.
var standbyFloors = map[string]string{ //nolint:gochecknoglobals // a constant table
	"max_connections":           "max_connections setting",
	"max_locks_per_transaction": "max_locks_per_xact setting",
	"max_prepared_transactions": "max_prepared_xacts setting",
	"max_wal_senders":           "max_wal_senders setting",
	"max_worker_processes":      "max_worker_processes setting",
}

// findFloors looks up what the next start needs at least. A standby that has less does
// not start, and nobody could raise it by an order.
func (a *Agent) findFloors(ctx context.Context) error {
	floors := map[string]int{}
	if exists(a.p.standbySignal()) {
		fields, err := a.controlData(ctx, a.p.data)
		if err != nil {
			return err
		}
		for name, field := range standbyFloors {
			n, err := strconv.Atoi(fields[field])
			if err != nil {
				return fmt.Errorf("read control file: %q: %w", field, err)
			}
			floors[name] = n
		}
	}
	a.conf.mu.Lock()
	defer a.conf.mu.Unlock()
	a.conf.floors = floors
	return nil
}

// forgetFloors is for a server that is no standby any more: it is like the cluster's
// settings from its next start on, and says so until then.
func (a *Agent) forgetFloors() {
	chosen := a.chosen()
	a.conf.mu.Lock()
	floors := a.conf.floors
	a.conf.floors = nil
	a.conf.mu.Unlock()
	if !maps.Equal(raised(chosen, floors), chosen) {
		a.reconfigure()
	}
}

// resetBelowFloors takes out of postgresql.auto.conf what would keep a standby that is
// down from starting: ALTER SYSTEM outranks what the agent writes.
func (a *Agent) resetBelowFloors(ctx context.Context) error {
	a.conf.mu.Lock()
	floors := a.conf.floors
	a.conf.mu.Unlock()
	var low []string
	_, after, err := a.autoConfWithout(func(name, value string) bool {
		floor, bounded := floors[name]
		n, valid := wholeNumber(value)
		below := bounded && valid && n < floor
		if below {
			low = append(low, name+"="+value)
		}
		return below
	})
	if err != nil || len(low) == 0 {
		return err
	}
	a.log.WarnContext(ctx, "resetting what ALTER SYSTEM made lower than a standby needs", "settings", strings.Join(low, ","))
	a.noteOverrides(low...)
	return a.owner.replaceDurably(a.p.autoConf(), []byte(after))
}

// stopLacking stops a standby that has stopped replaying because its primary got more
// of some settings than it has: it could not be promoted. It reports whether it did;
// the next start raises them.
func (a *Agent) stopLacking(ctx context.Context) (bool, error) {
	var paused bool
	err := a.queryRow(ctx, "SELECT CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() = 'paused' ELSE false END", &paused)
	if err != nil {
		return false, fmt.Errorf("ask whether WAL is replayed: %w", err)
	}
	if !paused {
		return false, nil
	}
	if err := a.findFloors(ctx); err != nil {
		return false, err
	}
	lacks, err := a.lacking(ctx)
	if err != nil || len(lacks) == 0 {
		return false, err // somebody has paused it
	}
	a.log.WarnContext(ctx, "restarting a standby that has less than its primary and cannot replay", "settings", strings.Join(lacks, ","))
	a.step("stopping to raise " + strings.Join(lacks, ", "))
	return true, a.stop(ctx, fastStop)
}

// lacking returns the settings of which the running server has less than its floors.
// Those set by ALTER SYSTEM are reset, or a start would not raise them.
func (a *Agent) lacking(ctx context.Context) ([]string, error) {
	a.conf.mu.Lock()
	floors := a.conf.floors
	a.conf.mu.Unlock()
	var lacks []string
	for _, name := range slices.Sorted(maps.Keys(floors)) {
		var has int
		var bySystem bool
		sql := "SELECT setting::int, coalesce(sourcefile LIKE '%/postgresql.auto.conf', false) FROM pg_settings WHERE name = " + quoteLiteral(name)
		if err := a.queryRow(ctx, sql, &has, &bySystem); err != nil {
			return nil, fmt.Errorf("look at %s: %w", name, err)
		}
		if has >= floors[name] {
			continue
		}
		lacks = append(lacks, name)
		if !bySystem {
			continue
		}
		conn, err := a.admin(ctx)
		if err == nil {
			_, err = conn.Exec(ctx, "ALTER SYSTEM RESET "+name)
		}
		if err != nil {
			return nil, fmt.Errorf("reset %s: %w", name, err)
		}
	}
	return lacks, nil
}

// raised returns chosen settings with those raised that are below what a standby needs.
func raised(chosen map[string]string, floors map[string]int) map[string]string {
	all := map[string]string{}
	maps.Copy(all, chosen)
	defaults := defaultSettings()
	defaults["max_locks_per_transaction"], defaults["max_prepared_transactions"], defaults["max_worker_processes"] = "64", "0", "8"
	for name, floor := range floors {
		value, ok := all[name]
		if !ok {
			value = defaults[name]
		}
		// What is no plain number is in nobody's reach here: PostgreSQL says what it thinks.
		if n, valid := wholeNumber(value); valid && n < floor {
			all[name] = strconv.Itoa(floor)
		}
	}
	return all
}
