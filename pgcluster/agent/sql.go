package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/xpd-platform/xpd/pgcluster"
)

const (
	connectTimeout = 2 * time.Second
	probeTimeout   = time.Second
)

// config ignores the environment: PGHOST and its like are meant for people.
func (a *Agent) config(host string, port int) (*pgx.ConnConfig, error) {
	c, err := pgx.ParseConfig("sslmode=disable target_session_attrs=any")
	if err != nil {
		return nil, err
	}
	c.Host, c.Port, c.Fallbacks = host, uint16(port), nil //nolint:gosec // a port
	c.User, c.Password, c.Database = AdminRole, "", "postgres"
	c.ConnectTimeout = connectTimeout
	c.RuntimeParams = map[string]string{"application_name": "xpd_agent"}
	return c, nil
}

// localConfig is for the superuser over the local socket. Its commits wait for
// the local disk only: nothing that the agent does may hang on a standby.
func (a *Agent) localConfig() (*pgx.ConnConfig, error) {
	c, err := a.config(a.p.run, a.self().PGPort)
	if err != nil {
		return nil, err
	}
	c.RuntimeParams["synchronous_commit"] = "local"
	return c, nil
}

// connect opens a connection to the local server. The caller closes it.
func (a *Agent) connect(ctx context.Context) (*pgx.Conn, error) {
	c, err := a.localConfig()
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("connect to the local PostgreSQL: %w", err)
	}
	return conn, nil
}

// connectTo opens a superuser's connection to another member. The caller closes it.
func (a *Agent) connectTo(ctx context.Context, id pgcluster.NodeID) (*pgx.Conn, error) {
	m, ok := a.member(id)
	if !ok {
		return nil, fmt.Errorf("node %q is not among the members", id)
	}
	c, err := a.config(m.Host, m.PGPort)
	if err != nil {
		return nil, err
	}
	c.Password = a.o.Secrets.Admin
	if a.o.TLS != nil {
		c.TLSConfig = a.o.TLS.NodeClientConfig()
		c.TLSConfig.ServerName = m.Host
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", id, err)
	}
	return conn, nil
}

// closeConn closes without letting a hung server hold us up.
func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 100*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx) // the server drops it sooner or later
}

// admin returns the connection that orders use, opened anew if the server is not
// the one that it belongs to. Only the reconcile loop calls it.
func (a *Agent) admin(ctx context.Context) (*pgx.Conn, error) {
	s := a.running()
	if s == nil {
		return nil, errServerGone
	}
	if a.work != nil && (a.workServer != s || a.work.IsClosed()) {
		closeConn(ctx, a.work)
		a.work = nil
	}
	if a.work == nil {
		conn, err := a.connect(ctx)
		if err != nil {
			return nil, err
		}
		a.work, a.workServer = conn, s
	}
	return a.work, nil
}

// queryRow runs one query of the reconcile loop with a bound on its time.
func (a *Agent) queryRow(ctx context.Context, sql string, dest ...any) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := a.admin(ctx)
	if err != nil {
		return err
	}
	return conn.QueryRow(ctx, sql).Scan(dest...)
}

// awaitSetting waits until the running server has reloaded and shows want.
func (a *Agent) awaitSetting(ctx context.Context, name, want string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	got := ""
	err := until(ctx, 2*time.Millisecond, func(ctx context.Context) (bool, error) {
		err := a.queryRow(ctx, "SELECT current_setting("+quoteLiteral(name)+")", &got)
		return got == want, err
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("setting %s: %q is in force instead of %q (ALTER SYSTEM overrides the agent)", name, got, want)
	}
	if err != nil {
		return fmt.Errorf("setting %s: %w", name, err)
	}
	return nil
}

func quoteLiteral(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return " E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}

// onceDialer lets a connection be opened but no second one. The driver opens a
// second one to cancel what it stops waiting for, and cancelling a commit that
// waits for its standby would acknowledge it.
func onceDialer() pgconn.DialFunc {
	used := false
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if used {
			return nil, errors.New("this connection is not cancelled")
		}
		used = true
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
}

// toolSource is how PostgreSQL's programs connect to a member. Who only reads would wait
// for hours on a host that is gone.
func (a *Agent) toolSource(m pgcluster.Member, name, user string) map[string]string {
	params := map[string]string{
		"application_name":    name,
		"connect_timeout":     "5",
		"gssencmode":          "disable",
		"host":                m.Host,
		"keepalives_count":    "3",
		"keepalives_idle":     "10",
		"keepalives_interval": "5",
		"port":                strconv.Itoa(m.PGPort),
		"tcp_user_timeout":    "25000",
		"user":                user,
	}
	maps.Copy(params, tlsSource(a.o, a.p))
	return params
}
