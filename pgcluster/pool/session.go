package pool

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"github.com/xpd-platform/xpd/pgcluster"
)

const (
	connectTimeout = time.Second
	prepareTimeout = 2 * time.Second
	closeTimeout   = 500 * time.Millisecond
	deadPeer       = 3 * time.Second // unacknowledged data or keepalives end a connection
)

var errNoCancel = errors.New("this connection is dialled once only, so that no cancel request goes out")

// connConfig is the template of all connections to m.
func connConfig(m pgcluster.Member, o Options) (*pgx.ConnConfig, error) {
	dsn := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(o.User, o.Password),
		Host:     m.PGAddr(),
		Path:     o.Database,
		RawQuery: "sslmode=disable&target_session_attrs=any",
	}
	config, err := pgx.ParseConfig(dsn.String())
	if err != nil {
		return nil, err
	}
	config.ConnectTimeout = connectTimeout
	// The environment and the defaults of the role or database have no say in what
	// durability rests on.
	config.RuntimeParams = map[string]string{
		"application_name":              "xpd-pool",
		"default_transaction_read_only": "off",
		"synchronous_commit":            "on",
	}
	return config, nil
}

// session is one connection. Whoever took it from its node owns all of it but the
// socket, which is closed under the owner when the epoch ends.
type session struct {
	conn        *pgx.Conn
	socket      net.Conn // TCP, also below TLS
	encrypted   bool
	raw         syscall.RawConn
	timeline    pgcluster.Timeline // of its server as a primary; 0 before it is seen to be one
	prepared    bool
	unconfirmed atomic.Bool // a commit said that its wait for replication was cancelled
	cut         atomic.Bool // the socket was closed on purpose
}

// openSession connects, encrypted unless secure is nil. Its errors are pgx's.
func openSession(ctx context.Context, template *pgx.ConnConfig, secure func() *tls.Config) (*session, error) {
	s := &session{encrypted: secure != nil}
	config := template.Copy()
	if s.encrypted {
		config.TLSConfig = secure() // anew each time: it holds the certificates of now
		config.TLSConfig.ServerName = config.Host
	}
	config.DialFunc = s.dial
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if saysUnconfirmed(n) {
			s.unconfirmed.Store(true)
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	s.conn = conn
	return s, nil
}

// primaryTimeline returns the timeline of a primary, or 0 for a standby.
func primaryTimeline(ctx context.Context, c *pgx.Conn) (pgcluster.Timeline, error) {
	// The name of a WAL file begins with its timeline. A promotion between the two
	// functions would make an error of this, and the next try right.
	const sql = "SELECT CASE WHEN pg_is_in_recovery() THEN '0' ELSE left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END"
	var name string
	if err := c.QueryRow(ctx, sql, pgx.QueryExecModeSimpleProtocol).Scan(&name); err != nil {
		return 0, fmt.Errorf("ask for the timeline: %w", err)
	}
	t, err := strconv.ParseUint(name, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("ask for the timeline: %w", err)
	}
	return pgcluster.Timeline(t), nil
}

// serves reports whether the session's server is the primary of the target rather
// than what its node became since. A server is asked once: a promotion changes its
// timeline and a demotion ends its sessions, so a primary's never changes.
func (s *session) serves(ctx context.Context, t Target) (bool, error) {
	if t.Timeline == 0 {
		return true, nil
	}
	if s.timeline == 0 {
		var err error
		if s.timeline, err = primaryTimeline(ctx, s.conn); err != nil {
			return false, err
		}
	}
	return s.timeline == t.Timeline, nil
}

// dial succeeds once in the life of a session. pgx dials again only to send a
// cancel request when it gives up a connection.
func (s *session) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if s.socket != nil {
		return nil, errNoCancel
	}
	d := net.Dialer{
		Timeout:         connectTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 3},
		Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			ctrlErr := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadPeer.Milliseconds()))
			})
			return errors.Join(err, ctrlErr)
		},
	}
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if sc, ok := c.(syscall.Conn); ok {
		if s.raw, err = sc.SyscallConn(); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	s.socket = c
	return c, nil
}

// dead reports whether the server has ended an idle session, without a round
// trip: the socket is at its end, or holds an error message, which a server sends
// unasked only as its last. Encrypted, a message does not show what it is; there the
// end of the stream counts, which may lie behind what was not read.
//
// It peeks beside whoever reads: after a slow write pgx leaves a reader behind that
// waits for the next message, and to wait for its turn would be to wait for ever.
func (s *session) dead() bool {
	if s.cut.Load() || s.conn.IsClosed() {
		return true
	}
	if s.raw == nil {
		return false
	}
	if s.encrypted {
		return s.hungUp()
	}
	var (
		first [1]byte
		n     int
		err   error
	)
	rawErr := s.raw.Control(func(fd uintptr) {
		n, _, err = unix.Recvfrom(int(fd), first[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	switch {
	case rawErr != nil:
		return true
	case errors.Is(err, unix.EAGAIN):
		return false
	}
	return err != nil || n == 0 || first[0] == 'E'
}

// hungUp reports whether the server has closed its side, read or not.
func (s *session) hungUp() bool {
	var (
		n   int
		err error
	)
	rawErr := s.raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}} //nolint:gosec // a file descriptor is an int32
		n, err = unix.Poll(fds, 0)
	})
	return rawErr != nil || (err == nil && n > 0) // an interrupted call says nothing
}

// reusable reports whether the next function may have the session.
func (s *session) reusable() bool {
	return !s.lost() && !s.conn.PgConn().IsBusy() && s.conn.PgConn().TxStatus() == 'I'
}

// lost reports whether the connection is gone, whoever ended it.
func (s *session) lost() bool { return s.cut.Load() || s.conn.IsClosed() }

// cutSocket ends the session at once, whoever uses it.
func (s *session) cutSocket() {
	s.cut.Store(true)
	s.socket.Close() //nolint:gosec // it may be closed already
}

// close frees the session, which nobody uses. If it is healthy the server is told,
// whether or not the context of its last user has ended.
//
//nolint:contextcheck,nolintlint // contextcheck takes the hint itself, so it looks unused
func (s *session) close() {
	if !s.reusable() {
		s.cutSocket()
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	s.conn.Close(ctx) //nolint:gosec // whatever it says, the session is over
	<-s.conn.PgConn().CleanupDone()
}
