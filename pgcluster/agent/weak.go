package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/pgcluster"
)

// roleSetting is a setting that is given to the sessions of a role, of a database, or
// of both; empty is all of them.
type roleSetting struct {
	Role, Database, Name, Value string
}

const roleSettingsSQL = `
SELECT coalesce(r.rolname, ''), coalesce(d.datname, ''), lower(split_part(c, '=', 1)), substr(c, strpos(c, '=') + 1)
FROM pg_db_role_setting s
LEFT JOIN pg_roles r ON r.oid = s.setrole
LEFT JOIN pg_database d ON d.oid = s.setdatabase
CROSS JOIN LATERAL unnest(s.setconfig) c
ORDER BY 1, 2, 3`

// checkRoles undoes settings of the agent's own roles and database that are the
// agent's to choose, and reports who else commits without waiting for a standby. What
// a session sets for itself cannot be seen from outside: PostgreSQL shows no other
// session's settings and does not mark such commits.
func (a *Agent) checkRoles(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, roleSettingsSQL)
	if err != nil {
		return fmt.Errorf("look at the settings of roles: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[roleSetting])
	if err != nil {
		return fmt.Errorf("look at the settings of roles: %w", err)
	}
	var weak []string
	for _, s := range all {
		if s.touchesOurs() && pgcluster.OwnedSetting(s.Name) {
			if err := a.resetRole(ctx, conn, s); err != nil {
				return err
			}
			continue
		}
		if s.weak() {
			weak = append(weak, s.String())
		}
	}
	a.publish(func(r *pgcluster.Report) { r.Weak = weak })
	return nil
}

// resetRole undoes one of them once clients may write: before that, the node's WAL is
// not ours to add to.
func (a *Agent) resetRole(ctx context.Context, conn *pgx.Conn, s roleSetting) error {
	if st := a.state.get(); st.Open == 0 || st.Open != st.Led {
		return nil
	}
	a.log.ErrorContext(ctx, "a setting that xpd owns was given to its sessions, taking it back; "+
		"it stays with sessions that are open", "setting", s.String())
	a.noteOverrides(s.String())
	for _, sql := range []string{"SET default_transaction_read_only = off", s.resetSQL()} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("reset %s: %w", s, err)
		}
	}
	return nil
}

func (s roleSetting) resetSQL() string {
	target := "ROLE ALL"
	switch {
	case s.Role != "" && s.Database != "":
		target = "ROLE " + pgx.Identifier{s.Role}.Sanitize() + " IN DATABASE " + pgx.Identifier{s.Database}.Sanitize()
	case s.Role != "":
		target = "ROLE " + pgx.Identifier{s.Role}.Sanitize()
	case s.Database != "":
		target = "DATABASE " + pgx.Identifier{s.Database}.Sanitize()
	}
	return "ALTER " + target + " RESET " + pgx.Identifier{s.Name}.Sanitize()
}

// touchesOurs reports whether sessions of the agent's roles may get the setting.
func (s roleSetting) touchesOurs() bool {
	ourRole := slices.Contains([]string{AdminRole, ReplicationRole, ServiceRole}, s.Role)
	return ourRole || s.Role == "" && (s.Database == "" || s.Database == Database)
}

// weak reports whether commits under the setting wait for no standby's disk.
func (s roleSetting) weak() bool {
	waits := []string{"on", "remote_apply", "true", "yes", "1"}
	return s.Name == "synchronous_commit" && !slices.Contains(waits, strings.ToLower(s.Value))
}

func (s roleSetting) String() string {
	who := "all roles"
	switch {
	case s.Role != "" && s.Database != "":
		who = "role " + s.Role + " in database " + s.Database
	case s.Role != "":
		who = "role " + s.Role
	case s.Database != "":
		who = "database " + s.Database
	}
	return who + ": " + s.Name + "=" + s.Value
}
