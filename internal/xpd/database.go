package xpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/experiment/pgstore"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/pgcluster/agent"
	"github.com/xpd-platform/xpd/pgcluster/pool"
)

// Bounds of the pools: connections to each node from each xpd, and requests that
// may wait for a primary.
const (
	minConns   = 4
	maxConns   = 16
	maxWaiting = 10_000
)

// errNoPrimary is returned by what needs the primary while none is open.
var errNoPrimary = errors.New("no primary is open")

// database is the pools in the words of the experiment side.
type database struct {
	pools    *pool.Pools
	member   func(pgcluster.NodeID) (pgcluster.Member, bool)
	password string
	tls      func() *tls.Config // nil: in plain
}

// Do implements pgstore.DB.
func (d database) Do(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error {
	return translate(d.pools.Do(ctx, fn))
}

// Read runs fn, which only reads, on the primary.
func (d database) Read(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error {
	return translate(d.pools.Read(ctx, fn))
}

func translate(err error) error {
	if errors.Is(err, pool.ErrOverloaded) || errors.Is(err, pool.ErrClosed) {
		return fmt.Errorf("%w: %w", experiment.ErrOverloaded, err)
	}
	return err
}

// config returns how to connect to the open primary outside the pools.
func (d database) config() (*pgx.ConnConfig, error) {
	target := d.pools.Target()
	if !target.Open {
		return nil, errNoPrimary
	}
	m, known := d.member(target.Node)
	if !known {
		return nil, errNoPrimary
	}
	conf, err := pgx.ParseConfig("sslmode=disable target_session_attrs=any")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL's own environment variables: %w", err)
	}
	conf.Host, conf.Port, conf.Database = m.Host, uint16(m.PGPort), agent.Database //nolint:gosec // ParseMembers bounds ports
	conf.User, conf.Password = agent.ServiceRole, d.password
	conf.TLSConfig, conf.Fallbacks = nil, nil
	if d.tls != nil {
		conf.TLSConfig = d.tls()
		conf.TLSConfig.ServerName = m.Host
	}
	conf.ConnectTimeout = 2 * time.Second
	conf.RuntimeParams = map[string]string{
		"application_name":              "xpd-session",
		"default_transaction_read_only": "off",
	}
	return conf, nil
}

// connect opens a session on the primary that is not part of the pools.
func (d database) connect(ctx context.Context) (*pgx.Conn, error) {
	conf, err := d.config()
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, conf)
}

// migrate brings the schema up to date on whichever primary opens first, once. It
// tries until that is done or ctx ends.
func (d database) migrate(ctx context.Context, failed func(error)) error {
	const pause = 250 * time.Millisecond
	for {
		conf, err := d.config()
		if err == nil {
			err = pgstore.Migrate(ctx, conf)
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, errNoPrimary) {
			failed(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
