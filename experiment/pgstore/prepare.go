package pgstore

import (
	"context"
	"fmt"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
)

// byKeySQL comes first in every transaction of the hot path, whose statements look
// rows up by key. A prepared plan may be made while its table is small or has no
// statistics, where scanning all of it looks cheapest, and is kept while the table
// grows. Compiling a plan, which a wrong estimate also leads to, costs 100 ms for
// every execution.
const byKeySQL = `SELECT set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)`

// Prepare prepares the statements of the hot path on c, which may be connected to
// a standby: they run as soon as it is promoted. Each is known by its own text,
// so that a connection without them still works and prepares on first use. A
// database that Migrate has not reached yet is no error.
func Prepare(ctx context.Context, c *pgx.Conn) error {
	for _, sql := range []string{
		byKeySQL, lookUpSQL, versionSQL,
		checkDefinitionsSQL, insertUnitsSQL, insertAssignmentsSQL, proveSQL, readAssignmentsSQL,
		insertExposuresSQL, proveUnwrittenSQL, readExposuresSQL,
		insertEventsSQL,
		assignmentsOfSQL, eventsOfSQL,
	} {
		_, err := c.Prepare(ctx, sql, sql)
		if hasCode(err, pgerrcode.UndefinedTable, pgerrcode.UndefinedFunction) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("prepare %.40q: %w", sql, err)
		}
	}
	return nil
}
