package agent

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/pgcluster"
)

// initialize makes the cluster's first data directory. Once it has been renamed
// into place, only the order that made it may go on with it.
func (a *Agent) initialize(ctx context.Context, o pgcluster.Order) error {
	if !exists(a.p.data) {
		if err := a.initdb(ctx, o.Stamp.Epoch); err != nil {
			return err
		}
	}
	st := a.state.get()
	if st.Led != o.Stamp.Epoch || st.Open != 0 {
		return errors.New("there is a data directory already: initdb refused")
	}
	if err := a.start(ctx); err != nil {
		return err
	}
	a.step("creating roles")
	if err := a.createRoles(ctx); err != nil {
		return err
	}
	return a.serve(ctx, o.Stamp.Epoch)
}

func (a *Agent) initdb(ctx context.Context, epoch uint64) error {
	a.step("running initdb")
	temp := a.p.data + ".init"
	if err := a.killOrphans(ctx); err != nil {
		return err
	}
	if err := removeAll(temp); err != nil {
		return err
	}
	err := a.runTool(ctx, "", "initdb", "-D", temp, "-U", AdminRole, "--data-checksums",
		"--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256",
		"--wal-segsize="+strconv.Itoa(newSegmentSize>>20))
	if err != nil {
		return err
	}
	_, err = a.save(func(s *saved) {
		s.Led, s.Recruited, s.Barrier, s.Open = epoch, 0, 0, 0
		s.Settings = settings{Locked: true}
	})
	if err != nil {
		return err
	}
	if err := rename(temp, a.p.data); err != nil {
		return fmt.Errorf("install data directory: %w", err)
	}
	a.refreshStopped(ctx, false, "")
	return nil
}

// createRoles may be repeated.
func (a *Agent) createRoles(ctx context.Context) error {
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	// Nobody is to read a password in the log, whatever an adopted server logs.
	statements := []string{
		"SET log_min_error_statement = panic", "SET log_statement = none", "SET log_duration = off",
		"SET log_min_duration_statement = -1", "SET log_min_duration_sample = -1", "SET log_transaction_sample_rate = 0",
		"SET pg_stat_statements.track = none", "SET auto_explain.log_min_duration = -1",
		"SET lock_timeout = '2s'", "SET default_transaction_read_only = off", "SET password_encryption = 'scram-sha-256'",
	}
	for _, r := range []struct{ name, options, secret string }{
		{AdminRole, "LOGIN SUPERUSER", a.o.Secrets.Admin},
		{ReplicationRole, "LOGIN REPLICATION", a.o.Secrets.Replication},
		{ServiceRole, "LOGIN", a.o.Secrets.Service},
	} {
		known, err := queryBool(ctx, conn, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", r.name)
		if err != nil {
			return fmt.Errorf("create roles: %w", err)
		}
		verb := "CREATE"
		if known {
			verb = "ALTER"
		}
		statements = append(statements, fmt.Sprintf("%s ROLE %s %s PASSWORD %s", verb, r.name, r.options, quoteLiteral(r.secret)))
	}
	known, err := queryBool(ctx, conn, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", Database)
	if err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	if !known {
		// The same everywhere, whatever an adopted server's template is.
		statements = append(statements, "CREATE DATABASE "+Database+" OWNER "+ServiceRole+
			" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'")
	}
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("create roles and database: %w", err)
		}
	}
	return nil
}

func queryBool(ctx context.Context, conn *pgx.Conn, sql string, args ...any) (bool, error) {
	var b bool
	err := conn.QueryRow(ctx, sql, args...).Scan(&b)
	return b, err
}

// runTool runs one of PostgreSQL's programs to its end, as PostgreSQL's user, in
// our folder, where killOrphans finds it if we die. If ctx ends, the program and
// what it has started are ended too.
func (a *Agent) runTool(ctx context.Context, password, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(a.o.BinDir, name), args...)
	cmd.Dir = a.p.pg
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "PGTZ=UTC"}
	if password != "" {
		cmd.Env = append(cmd.Env, "PGPASSWORD="+password)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: a.owner.credential}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", name, ctx.Err())
		}
		return fmt.Errorf("%s: %w: %s", name, err, lastLines(string(out)))
	}
	return nil
}

// lastLines shortens a program's output to what says why it failed.
func lastLines(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], "; ")
}
