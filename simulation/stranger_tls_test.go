package simulation_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation/localcluster"
)

// issuer signs what a cluster's own CA would not.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// readCA returns the CA of the cluster, as if its key had been stolen.
func readCA(t *testing.T, cluster *localcluster.Cluster) issuer {
	t.Helper()
	var blocks [2][]byte
	for i, name := range []string{"ca.crt", "ca.key"} {
		text, err := os.ReadFile(filepath.Join(cluster.Dir(), "tls", name))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		blocks[i] = block.Bytes
	}
	cert, err := x509.ParseCertificate(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(blocks[1])
	if err != nil {
		t.Fatal(err)
	}
	return issuer{cert, key.(*ecdsa.PrivateKey)}
}

// imitate returns a CA that looks like ca, but has a key of its own.
func imitate(t *testing.T, ca issuer) issuer {
	t.Helper()
	key := newKey(t)
	forged := *ca.cert
	forged.PublicKey, forged.SignatureAlgorithm = nil, 0
	der, err := x509.CreateCertificate(rand.Reader, &forged, &forged, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return issuer{cert, key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// paper is what a certificate says.
type paper struct {
	node  string // "": of no node
	from  time.Duration
	until time.Duration
	usage x509.ExtKeyUsage
}

func goodFor(node string) paper {
	return paper{node: node, from: -time.Hour, until: time.Hour, usage: x509.ExtKeyUsageClientAuth}
}

// sign returns a TLS configuration with the certificate that says p, and trust in the
// cluster.
func (i issuer) sign(t *testing.T, cluster *localcluster.Cluster, p paper) *tls.Config {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "n2", Organization: []string{"xpd"}},
		NotBefore: time.Now().Add(p.from), NotAfter: time.Now().Add(p.until),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{p.usage},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if p.node != "" {
		template.URIs = []*url.URL{{Scheme: "urn", Opaque: "xpd:node:" + p.node}}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, &key.PublicKey, i.key)
	if err != nil {
		t.Fatal(err)
	}
	conf := cluster.Trust()
	// Shown whatever the node says that it accepts: a stranger is not polite.
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
	}
	return conf
}

// showCertificates shows all sorts of certificates, with the nodes' token, to the HTTP
// port and to the Raft port.
func showCertificates(ctx context.Context, t *testing.T, cluster *localcluster.Cluster) {
	t.Helper()
	ca := readCA(t, cluster)
	expired, early, server, none := goodFor("n2"), goodFor("n2"), goodFor("n2"), goodFor("")
	expired.until = -time.Minute
	early.from = 30 * time.Minute
	server.usage = x509.ExtKeyUsageServerAuth
	self := imitate(t, ca)
	tests := []struct {
		name string
		conf *tls.Config
		http int  // status; 0: no answer at all
		raft bool // let in
	}{
		{"a node's", ca.sign(t, cluster, goodFor("n2")), http.StatusOK, true},
		{"none", cluster.Trust(), http.StatusUnauthorized, false},
		{"an expired one", ca.sign(t, cluster, expired), 0, false},
		{"one that is not valid yet", ca.sign(t, cluster, early), 0, false},
		{"one for servers only", ca.sign(t, cluster, server), 0, false},
		{"one of the CA that is no node's", ca.sign(t, cluster, none), http.StatusUnauthorized, false},
		{"one of a CA that has the same name", self.sign(t, cluster, goodFor("n2")), 0, false},
		{"one with a name that is none", ca.sign(t, cluster, goodFor("n2/../n3")), http.StatusUnauthorized, false},
	}
	token, m := nodeToken(t, cluster), cluster.Members()[0]
	for _, tt := range tests {
		v := visit(t, cluster, m, addrPeer, tt.conf)
		got, err := v.ask(ctx, http.MethodGet, "/v1/node/report", token, nil, nil)
		if got.status != tt.http || (err == nil) != (tt.http != 0) {
			t.Errorf("%s, to HTTP: status %d %s, %v, want %d", tt.name, got.status, got.body, err, tt.http)
		}
		// With a certificate alone, and with the token of a person.
		for _, wrong := range []string{"", cluster.Token()} {
			if got, err := v.ask(ctx, http.MethodGet, "/v1/node/report", wrong, nil, nil); err == nil && got.status != http.StatusUnauthorized {
				t.Errorf("%s without the nodes' token: status %d %s, want 401", tt.name, got.status, got.body)
			}
		}
		if err := knockAtRaft(ctx, m, tt.conf, tt.raft); (err == nil) != tt.raft {
			t.Errorf("%s, to Raft: %v, want it let in: %v", tt.name, err, tt.raft)
		}
	}
}

// knockAtRaft returns nil if the Raft port of m waits for a request after the handshake:
// for long where it should not.
func knockAtRaft(ctx context.Context, m pgcluster.Member, conf *tls.Config, should bool) error {
	wait := hung
	if should {
		wait = time.Second
	}
	conf = conf.Clone()
	conf.ServerName = m.Host
	d := tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addrPeer)}}, Config: conf}
	c, err := d.DialContext(ctx, "tcp", m.RaftAddr())
	if err != nil {
		return err
	}
	defer c.Close()
	// The client learns of a refusal only with what it reads.
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	n, err := c.Read(make([]byte, 1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case err == nil:
		return fmt.Errorf("it says %d byte without being asked", n)
	}
	return err
}

// speakPlainly sends requests without TLS to ports that want it.
func speakPlainly(ctx context.Context, t *testing.T, cluster *localcluster.Cluster) {
	t.Helper()
	for _, m := range cluster.Members() {
		for name, at := range map[string]string{"HTTP": m.HTTPAddr(), "Raft": m.RaftAddr()} {
			for _, text := range []string{
				"GET /v1/cluster HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + cluster.Token() + "\r\n\r\n",
				"\x00\x00\x00\x00\x00\x00\x00\x00",
				"\x03{\"term\":99999999}",
				strings.Repeat("\xff", 70_000),
			} {
				c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addrPeer)}}).DialContext(ctx, "tcp", at)
				if err != nil {
					t.Fatal(err)
				}
				_ = c.SetDeadline(time.Now().Add(hung))
				_, _ = io.WriteString(c, text) // the node may hang up before its end
				got, err := io.ReadAll(c)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("plain %.20q to %s of %s: it still waits", text, name, m.ID)
				}
				if bytes.Contains(got, []byte("200 OK")) || bytes.Contains(got, []byte("epoch")) {
					t.Errorf("plain %.20q to %s of %s: %q", text, name, m.ID, got)
				}
				_ = c.Close()
			}
		}
	}
	if got, err := cluster.Client(access.RoleDBA); err != nil {
		t.Fatal(err)
	} else if c, err := got.Cluster(ctx); err != nil || !c.Confirmed {
		t.Errorf("the cluster afterwards: confirmed %v, %v", c.Confirmed, err)
	}
}

// replayOrder gives a node the order again by which it became primary, after another
// has become it.
func replayOrder(ctx context.Context, t *testing.T, cluster *localcluster.Cluster) {
	t.Helper()
	dba, err := cluster.Client(access.RoleDBA)
	if err != nil {
		t.Fatal(err)
	}
	old, err := cluster.Primary(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var m pgcluster.Member
	for _, is := range cluster.Members() {
		if is.ID == old {
			m = is
		}
	}
	// The node token and the certificate of a node: what is recorded came with both.
	v := visit(t, cluster, m, addrPeer, readCA(t, cluster).sign(t, cluster, goodFor("n2")))
	report := func() (r pgcluster.Report) {
		t.Helper()
		got := v.must(ctx, http.MethodGet, "/v1/node/report", nodeToken(t, cluster), nil, nil)
		if err := json.Unmarshal([]byte(got.body), &r); err != nil || got.status != http.StatusOK {
			t.Fatalf("report: status %d %s, %v", got.status, got.body, err)
		}
		return r
	}
	before := report()
	order := pgcluster.Order{Node: old, Kind: pgcluster.OrderLead, Stamp: before.Pledged, SystemID: before.SystemID, Open: true}
	if _, err := dba.Switchover(ctx, "", "to make an order stale"); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.WaitStatus(ctx, "another primary that is open", func(s failover.Status) bool {
		return s.Primary != old && open(s)
	}); err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		got := v.must(ctx, http.MethodPost, "/v1/node/orders", nodeToken(t, cluster), nil, bytes.NewReader(body))
		if got.status != http.StatusConflict || got.kind() != "stale-order" {
			t.Errorf("the order of epoch %d again: status %d %s, want it refused as stale", order.Stamp.Epoch, got.status, got.body)
		}
	}
	if err := cluster.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	if after := report(); after.Role == pgcluster.RolePrimary || after.Pledged.Epoch <= before.Pledged.Epoch {
		t.Errorf("%s is %s, pledged to %v, want a standby of a later epoch than %v", old, after.Role, after.Pledged, before.Pledged)
	}
}

// askPostgres tries the roles of PostgreSQL without their passwords, with TLS and without.
func askPostgres(ctx context.Context, t *testing.T, cluster *localcluster.Cluster) {
	t.Helper()
	for _, m := range cluster.Members() {
		for _, role := range []string{"xpd", "xpd_admin", "xpd_replication", "postgres", "root"} {
			for _, how := range []string{"", " password=guess", " replication=true", " replication=database password=guess"} {
				for _, mode := range []string{"disable", "require"} {
					ctx, cancel := context.WithTimeout(ctx, hung)
					conf, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s dbname=postgres sslmode=%s%s", m.Host, m.PGPort, role, mode, how))
					if err != nil {
						t.Fatal(err)
					}
					conn, err := pgconn.ConnectConfig(ctx, conf)
					refused, ok := errors.AsType[*pgconn.PgError](err)
					switch {
					case err == nil:
						t.Errorf("%s is let in at %s with sslmode=%s%s", role, m.ID, mode, how)
						_ = conn.Close(ctx)
					case ok && refused.Code[:2] != "28" && refused.Code != "57P03": // not who they say; closed to all
						t.Errorf("%s at %s with sslmode=%s%s: %v", role, m.ID, mode, how, err)
					}
					cancel()
				}
			}
		}
	}
}

// TestStranger_wasAMember adds a node, removes it, and has it come back: by its
// certificate, and by the request that added it once.
func TestStranger_wasAMember(t *testing.T) { //nolint:paralleltest // one cluster at a time
	slow(t)
	b := own(t, &bed{tune: func(o *localcluster.Options) { o.Secure = true }})
	cluster := b.use(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*faultPatience)
	defer cancel()
	ctx, release := cluster.Guard(ctx)
	defer release()
	id, err := cluster.AddNode(ctx, localcluster.Newcomer{})
	if err == nil {
		err = cluster.WaitReady(ctx) // a node that has heard of nothing yet cannot hear that it was removed
	}
	if err != nil {
		t.Fatal(err)
	}
	var gone pgcluster.Member
	for _, m := range cluster.Members() {
		if m.ID == id {
			gone = m
		}
	}
	if err := cluster.RemoveNode(ctx, id); err != nil {
		t.Fatalf("%v\nend of the log of %s:\n%s", err, id, cluster.Log(id))
	}
	conf := readCA(t, cluster).sign(t, cluster, goodFor(string(id)))
	for _, m := range cluster.Members() {
		v := visit(t, cluster, m, addrPeer, conf)
		if got := v.must(ctx, http.MethodGet, "/v1/node/report", nodeToken(t, cluster), nil, nil); got.status != http.StatusForbidden {
			t.Errorf("%s at %s, removed: status %d %s, want 403", id, m.ID, got.status, got.body)
		}
		if err := knockAtRaft(ctx, m, conf, false); err == nil {
			t.Errorf("%s is let in at the Raft port of %s though it was removed", id, m.ID)
		}
		add := fmt.Sprintf(`{"member":"%s"}`, gone)
		if got := v.must(ctx, http.MethodPost, "/v1/cluster/members", cluster.Token(access.RoleDBA), nil, strings.NewReader(add)); got.status != http.StatusConflict {
			t.Errorf("%s added again at %s: status %d %s, want 409", id, m.ID, got.status, got.body)
		}
	}
}
