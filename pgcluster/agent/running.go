package agent

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/pgcluster"
)

// What a server runs with that is not its default, less what only the agent may set: that
// differs from node to node, and nobody is to change it.
const runningSQL = `
SELECT s.name, current_setting(s.name) AS value, coalesce(f.setting, '') AS written, coalesce(f.sourcefile, '') AS file, s.pending_restart AS pending
FROM pg_settings s LEFT JOIN (
	SELECT DISTINCT ON (lower(name)) lower(name) AS name, setting, sourcefile FROM pg_file_settings ORDER BY lower(name), seqno DESC
) f ON f.name = lower(s.name)
WHERE (s.source IN ('configuration file', 'command line', 'environment variable') OR f.name IS NOT NULL OR s.pending_restart)
	AND lower(s.name) <> ALL ($1)
ORDER BY s.name`

// RunningSettings returns the settings that this node's PostgreSQL does not have by
// default, sorted by their names, but for those that only the agent changes.
func (a *Agent) RunningSettings(ctx context.Context) ([]pgcluster.RunningSetting, error) {
	conn, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer closeConn(ctx, conn)
	rows, err := conn.Query(ctx, runningSQL, a.ownedSettings())
	if err != nil {
		return nil, fmt.Errorf("read the settings of PostgreSQL: %w", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[pgcluster.RunningSetting])
	if err != nil {
		return nil, fmt.Errorf("read the settings of PostgreSQL: %w", err)
	}
	return out, nil
}
