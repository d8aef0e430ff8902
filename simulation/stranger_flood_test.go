package simulation_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/simulation/localcluster"
)

// sendMuch sends bodies that are larger than any that a route takes.
func sendMuch(ctx context.Context, t *testing.T, cluster *localcluster.Cluster) {
	t.Helper()
	v := visit(t, cluster, cluster.Members()[0], addrWalker, nil)
	const much = 32 << 20
	for _, tt := range []struct {
		method, path string
		role         access.Role
	}{
		{"POST", "/v1/treatments", access.RoleAssign},
		{"POST", "/v1/exposures", access.RoleIngest},
		{"POST", "/v1/events", access.RoleIngest},
		{"POST", "/v1/import/events", access.RoleIngest},
		{"POST", "/v1/import/assignments", access.RoleIngest},
		{"POST", "/v1/layers", access.RoleExperimenter},
		{"POST", "/v1/experiments", access.RoleExperimenter},
		{"POST", "/v1/cluster/switchover", access.RoleDBA},
		{"PATCH", "/v1/cluster/settings", access.RoleDBA},
		{"POST", "/v1/cluster/members", access.RoleDBA},
	} {
		for name, chunked := range map[string]bool{"a body that says how long it is": false, "a body in chunks": true} {
			for token, want := range map[string]int{"": http.StatusUnauthorized, cluster.Token(tt.role): http.StatusRequestEntityTooLarge} {
				got, err := v.sendBody(ctx, operation{tt.method, tt.path}, token, much, chunked)
				// 413 says nothing to a stranger; it may come first.
				if err != nil || got.status != want && got.status != http.StatusRequestEntityTooLarge {
					t.Errorf("%s to %s %s: status %d %s, %v, want %d", name, tt.method, tt.path, got.status, got.body, err, want)
				}
			}
		}
	}
	if got := v.must(ctx, http.MethodGet, "/v1/cluster", "", http.Header{"X-Much": {strings.Repeat("x", 1<<20)}}, nil); got.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of a megabyte: status %d, want 431", got.status)
	}
}

// sendBody sends a body of spaces of that length, in chunks or not, until the node answers.
// It reads the answer beside: who refuses a body need not read it.
func (v *visitor) sendBody(ctx context.Context, o operation, token string, length int, chunked bool) (answer, error) {
	conn, err := v.dial(ctx)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(hung)); err != nil {
		return answer{}, err
	}
	head := o.method + " " + o.path + " HTTP/1.1\r\nHost: " + v.at + "\r\nContent-Type: application/json\r\nConnection: close\r\n"
	if token != "" {
		head += "Authorization: Bearer " + token + "\r\n"
	}
	if chunked {
		head += "Transfer-Encoding: chunked\r\n\r\n"
	} else {
		head += fmt.Sprintf("Content-Length: %d\r\n\r\n", length)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer conn.Close() // ends the writer
	wg.Go(func() {
		if _, err := io.WriteString(conn, head); err != nil {
			return
		}
		piece := bytes.Repeat([]byte(" "), 16<<10)
		for sent := 0; sent < length; sent += len(piece) {
			var err error
			if chunked {
				_, err = fmt.Fprintf(conn, "%x\r\n%s\r\n", len(piece), piece)
			} else {
				_, err = conn.Write(piece)
			}
			if err != nil {
				return
			}
		}
		_, _ = io.WriteString(conn, "0\r\n\r\n")
	})
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body) // the node may hang up on who goes on to send
	return answer{resp.StatusCode, resp.Header, string(text)}, nil
}

// dial opens a connection with TLS.
func (v *visitor) dial(ctx context.Context) (*tls.Conn, error) {
	raw, err := v.dialer().DialContext(ctx, "tcp", v.at)
	if err != nil {
		return nil, err
	}
	conf := v.trust.Clone()
	conf.ServerName, _, _ = net.SplitHostPort(v.at)
	c := tls.Client(raw, conf)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return c, nil
}

// How many connections a slow stranger opens of each kind, and of the first kind, of
// which there are more than a node takes, and when the last of them is to be gone, after
// it was opened: the node gives a handshake five seconds and then a request's header
// five, and all that on a machine that does much else.
const (
	slowClients = 200
	slowCrowd   = 4300
	slowEnd     = 2*5*time.Second + 15*time.Second
)

// sendSlowly opens connections that do next to nothing, and sees that others are served
// meanwhile, and that the node ends them.
func sendSlowly(ctx context.Context, t *testing.T, cluster *localcluster.Cluster) {
	t.Helper()
	slow(t)
	v := visit(t, cluster, cluster.Members()[0], addrSlow, nil)
	line := "POST /v1/events HTTP/1.1\r\nHost: " + v.at + "\r\n"
	kinds := []struct{ name, sends string }{
		{"a handshake that does not come", ""},
		{"half a header", line + "X-Slow: "},
		{"half a body of a stranger", line + "Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n{"},
		{"no request", ""},
	}
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	began := time.Now()
	kindOf := map[net.Conn]string{}
	for i, kind := range kinds {
		n := slowClients
		if i == 0 {
			n = slowCrowd
		}
		for range n {
			raw, err := v.dialer().DialContext(ctx, "tcp", v.at)
			if err != nil {
				t.Fatalf("%s: %v", kind.name, err)
			}
			c := raw
			if i > 0 {
				conf := v.trust.Clone()
				conf.ServerName, _, _ = net.SplitHostPort(v.at)
				c = tls.Client(raw, conf)
				if _, err := io.WriteString(c, kind.sends); err != nil {
					t.Fatalf("%s: %v", kind.name, err)
				}
			}
			conns, kindOf[c] = append(conns, c), kind.name
		}
	}
	opened := time.Now()
	// Others are served.
	other := visit(t, cluster, cluster.Members()[0], addrOffice, nil)
	var worst time.Duration
	for range 50 {
		start := time.Now()
		if got := other.must(ctx, http.MethodGet, "/v1/cluster", cluster.Token(access.RoleDBA), nil, nil); got.status != http.StatusOK {
			t.Fatalf("status %d %s beside %d slow clients", got.status, got.body, len(conns))
		}
		worst = max(worst, time.Since(start))
	}
	for _, c := range conns {
		if kindOf[c] == "no request" {
			continue // an idle connection may stay longer; there is a bound on their number
		}
		_ = c.SetReadDeadline(opened.Add(slowEnd))
		_, err := io.Copy(io.Discard, c)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection is still open after %v", kindOf[c], slowEnd)
			return
		}
	}
	t.Logf("%d slow clients were gone after %v; the slowest request of another took %v", len(conns), time.Since(began).Round(time.Millisecond), worst)
}

// unreadProbes is more than the places for load balancers and Prometheus.
const unreadProbes = 300

// neverRead opens connections that ask for what everybody may read and read none of it,
// more than there are places, from several addresses, and sees that others are served.
func neverRead(ctx context.Context, t *testing.T, health string) {
	t.Helper()
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for i := range unreadProbes {
		d := net.Dialer{
			Timeout: hung, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%8))},
			// Small segments and a small buffer, so that few answers fill what the kernels take.
			Control: func(_, _ string, raw syscall.RawConn) (err error) {
				return errors.Join(raw.Control(func(fd uintptr) {
					err = errors.Join(syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 2048),
						syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 100))
				}), err)
			},
		}
		c, err := d.DialContext(ctx, "tcp", health)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		// The node may have sent one away that is the last of its address.
		_, _ = io.WriteString(c, strings.Repeat("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 8))
	}
	probe := &http.Client{Timeout: hung, Transport: &http.Transport{DisableKeepAlives: true}}
	for range 20 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+health+"/live", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := probe.Do(req)
		if err != nil {
			t.Fatalf("a probe beside %d connections that read nothing: %v", len(conns), err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("a probe beside %d connections that read nothing: status %d", len(conns), resp.StatusCode)
		}
	}
}

// raftCrowd is how many connections a stranger keeps open at a Raft port, which is more
// than may wait there without having shown who they are.
const raftCrowd = 400

// crowdRaft fills the Raft ports with connections that say nothing, again and again, and
// has a node come back meanwhile.
func crowdRaft(ctx context.Context, t *testing.T, cluster *localcluster.Cluster) {
	t.Helper()
	before, err := cluster.Primary(ctx)
	if err != nil {
		t.Fatal(err)
	}
	crowding, leave := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer leave()
	var pushed atomic.Int64
	for _, m := range cluster.Members() {
		wg.Go(func() {
			var open []net.Conn
			defer func() {
				for _, c := range open {
					_ = c.Close()
				}
			}()
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addrPeer)}, Timeout: time.Second}
			tick := time.NewTicker(time.Millisecond) // leaves something of two processors to the nodes
			defer tick.Stop()
			for crowding.Err() == nil {
				<-tick.C
				c, err := d.DialContext(crowding, "tcp", m.RaftAddr())
				if err != nil { // it is being restarted
					continue
				}
				pushed.Add(1)
				if open = append(open, c); len(open) > raftCrowd {
					_ = open[0].Close()
					open = open[1:]
				}
			}
		})
	}
	standby := cluster.Members()[0].ID
	if standby == before {
		standby = cluster.Members()[1].ID
	}
	err = soonish(ctx, "the crowd", func() bool { return pushed.Load() > 3*raftCrowd })
	if err == nil {
		err = cluster.RestartXPD(ctx, standby)
	}
	if err == nil {
		err = cluster.WaitReady(ctx)
	}
	if err != nil {
		t.Fatalf("%s, restarted in a crowd of %d strangers: %v", standby, pushed.Load(), err)
	}
	if after, err := cluster.Primary(ctx); err != nil || after != before {
		t.Errorf("%s is primary, %v, want still %s", after, err, before)
	}
	t.Logf("%s came back among %d connections of strangers", standby, pushed.Load())
}
