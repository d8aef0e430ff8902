package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

const overridesSQL = `
SELECT DISTINCT name FROM pg_file_settings
WHERE sourcefile = current_setting('data_directory') || '/postgresql.auto.conf' AND name = ANY ($1)`

// dropOverrides takes back what somebody set with ALTER SYSTEM although it is the
// agent's. With the rule of synchronous commits overridden, PostgreSQL acknowledges
// commits that no standby has; a clone inherits such settings, too.
func (a *Agent) dropOverrides(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := a.admin(ctx)
	if err != nil {
		return err
	}
	rows, err := conn.Query(ctx, overridesSQL, ownSettings)
	if err != nil {
		return fmt.Errorf("look for ALTER SYSTEM: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for ALTER SYSTEM: %w", err)
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	a.log.ErrorContext(ctx, "settings that xpd owns were changed by ALTER SYSTEM, taking them back; "+
		"commits of the meantime may be on this node only", "settings", strings.Join(names, ","))
	for _, name := range names {
		if _, err := conn.Exec(ctx, "ALTER SYSTEM RESET "+name); err != nil {
			return fmt.Errorf("undo ALTER SYSTEM: %w", err)
		}
	}
	// Without the rule, nobody may wait by it until it was armed.
	return a.apply(func(s *settings) { s.Arming = s.Arming || slices.Contains(names, "synchronous_standby_names") })
}
