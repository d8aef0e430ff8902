package agent

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// makeAdmin gives the agent a role to log in with. Nobody knows the superuser of an
// adopted database or how to log in as him; PostgreSQL's single-user mode asks no one.
// The server is stopped, and the data a primary's.
func (a *Agent) makeAdmin(ctx context.Context) error {
	a.step("creating the role " + AdminRole)
	if err := a.writeConf(); err != nil {
		return err
	}
	if found, err := a.adopt(ctx); err != nil || found {
		if found {
			err = a.expel(ctx)
		}
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(a.o.BinDir, "postgres"), "--single", "-D", a.p.data,
		"-c", "config_file="+a.p.config(), "-c", "hba_file="+a.p.hba(), "-c", "ident_file="+a.p.ident(),
		"-c", "default_transaction_read_only=off", "-c", "exit_on_error=on", "-c", "synchronous_commit=local", "postgres")
	cmd.Dir = a.p.pg
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "PGTZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: a.owner.credential}
	cmd.WaitDelay = 2 * time.Second
	// One statement a line.
	cmd.Stdin = strings.NewReader(`DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '` + AdminRole +
		`') THEN CREATE ROLE ` + AdminRole + `; END IF; END $$` + "\n" +
		"ALTER ROLE " + AdminRole + " LOGIN SUPERUSER\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("create role %s: %w: %s", AdminRole, err, lastLines(string(out)))
	}
	return nil
}

// adoptRoles makes the rest of the roles, and the database, of an adopted primary.
func (a *Agent) adoptRoles(ctx context.Context) error {
	ad := a.state.get().Adopted
	if ad == nil || ad.Roles {
		return nil
	}
	a.step("creating roles")
	if err := a.createRoles(ctx); err != nil {
		return err
	}
	next := *ad
	next.Roles = true
	_, err := a.save(func(s *saved) { s.Adopted = &next })
	return err
}
