package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Order is what the folder of a cluster's certificates should become: the CA and,
// for each node, a folder that is ready to be a node's TLS folder.
type Order struct {
	Dir      string
	Cluster  string    // what a new CA is called
	Nodes    []Request // Life is NodeLife's; nodes that are there already need no mention
	CALife   time.Duration
	NodeLife time.Duration

	Renew     bool // every node's certificate, also one that is good for long
	RotateCA  bool // begin to replace the CA: both are trusted from now on
	DropOldCA bool // end it, once every node's certificate is from the new one
}

// Result is what Make did. Words are for people.
type Result struct {
	CA       string       `json:"ca"`        // made, kept, rotated, old dropped
	CAs      int          `json:"cas"`       // that are trusted: two while one replaces the other
	NotAfter time.Time    `json:"not_after"` // of the CA that issues
	Nodes    []NodeResult `json:"nodes"`
	OldCA    []string     `json:"old_ca,omitempty"` // nodes whose certificate is from another CA than the one that issues
}

// NodeResult is what became of one node's folder.
type NodeResult struct {
	Node     pgcluster.NodeID `json:"node"`
	Dir      string           `json:"dir"`
	Did      string           `json:"did"` // made, renewed, kept, or given the new ca.crt
	Why      string           `json:"why,omitempty"`
	Hosts    []string         `json:"hosts"`
	NotAfter time.Time        `json:"not_after"`
}

// What Make does with a CA and with a node.
const (
	DidMake   = "made"
	DidKeep   = "kept"
	DidRenew  = "renewed"
	DidCA     = "ca.crt changed"
	DidRotate = "rotated"
	DidDrop   = "old one dropped"
)

// Make brings the folder up to date: it makes what is missing, and renews what has
// less than a third of its life left. Done again it changes nothing. It never
// overwrites a CA.
func Make(o Order) (Result, error) {
	var r Result
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return r, err
	}
	known, err := o.known()
	if err != nil {
		return r, err
	}
	bundle, ca, err := o.authority(known, &r)
	if err != nil {
		return r, err
	}
	all, err := parseCerts(bundle)
	if err != nil {
		return r, fmt.Errorf("%s: %w", filepath.Join(o.Dir, CAFile), err)
	}
	r.CAs, r.NotAfter = len(all), all[0].NotAfter
	if ca != nil {
		r.NotAfter = ca.cert.NotAfter
	}
	nodes, err := o.all(known)
	if err != nil {
		return r, err
	}
	for _, n := range nodes {
		done, cert, err := o.node(n, known[n.Node], bundle, all, ca)
		if err != nil {
			return r, err
		}
		if ca != nil && cert.CheckSignatureFrom(ca.cert) != nil {
			r.OldCA = append(r.OldCA, string(n.Node))
		}
		r.Nodes = append(r.Nodes, done)
	}
	return r, nil
}

// known returns the certificates of the nodes whose folders are there. One that
// cannot be read is nil.
func (o Order) known() (map[pgcluster.NodeID]*x509.Certificate, error) {
	found := map[pgcluster.NodeID]*x509.Certificate{}
	files, err := filepath.Glob(filepath.Join(o.Dir, "*", CertFile))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		dir := filepath.Dir(file)
		id, err := pgcluster.ParseNodeID(filepath.Base(dir))
		if err != nil {
			continue
		}
		found[id] = nil
		if pair, err := tls.LoadX509KeyPair(file, filepath.Join(dir, KeyFile)); err == nil {
			found[id] = pair.Leaf
		}
	}
	return found, nil
}

// all returns the nodes that were asked for and those that are there already, with
// the names that each certificate has.
func (o Order) all(known map[pgcluster.NodeID]*x509.Certificate) ([]Request, error) {
	all := slices.Clone(o.Nodes)
	for _, id := range slices.Sorted(maps.Keys(known)) {
		cert := known[id]
		switch {
		case slices.ContainsFunc(all, func(r Request) bool { return r.Node == id }):
		case cert == nil:
			return nil, fmt.Errorf("%s does not hold a key and its certificate: name the node with --cluster %s=HOST and they are made anew, or delete the folder",
				filepath.Join(o.Dir, string(id)), id)
		default:
			all = append(all, Request{Node: id, Hosts: hostsOf(cert)})
		}
	}
	slices.SortFunc(all, func(a, b Request) int { return strings.Compare(string(a.Node), string(b.Node)) })
	return all, nil
}

func hostsOf(c *x509.Certificate) []string {
	hosts := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	return hosts
}

// node brings one node's folder up to date and returns its certificate, too.
func (o Order) node(want Request, cert *x509.Certificate, bundle []byte, cas []*x509.Certificate, ca *CA) (NodeResult, *x509.Certificate, error) {
	dir := filepath.Join(o.Dir, string(want.Node))
	r := NodeResult{Node: want.Node, Dir: dir, Did: DidKeep}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return r, nil, err
	}
	if r.Did, r.Why = o.judge(want, cert, cas); r.Did != DidKeep {
		if ca == nil {
			return r, nil, fmt.Errorf("%s needs a certificate, but %s is not here: bring it back from where it is kept", want.Node, filepath.Join(o.Dir, CAKeyFile))
		}
		if cert != nil { // who renews need not know every name
			want.Hosts = append(slices.Clone(want.Hosts), hostsOf(cert)...)
		}
		var err error
		if cert, err = ca.issueInto(dir, want, o.NodeLife); err != nil {
			return r, nil, err
		}
	}
	changed, err := replace(filepath.Join(dir, CAFile), bundle, 0o644)
	if err != nil {
		return r, nil, err
	}
	if changed && r.Did == DidKeep {
		r.Did = DidCA
	}
	r.Hosts, r.NotAfter = hostsOf(cert), cert.NotAfter
	return r, cert, nil
}

// judge returns what to do about a node's certificate, and why.
func (o Order) judge(want Request, cert *x509.Certificate, cas []*x509.Certificate) (did, why string) {
	if cert == nil {
		return DidMake, ""
	}
	now := time.Now()
	have := hostsOf(cert)
	missing := slices.DeleteFunc(slices.Clone(want.Hosts), func(h string) bool { return slices.Contains(have, plain(h)) })
	id, ok := nodeOf(cert)
	life, left := cert.NotAfter.Sub(cert.NotBefore), cert.NotAfter.Sub(now)
	switch {
	case !ok || id != want.Node:
		return DidMake, "it was not " + string(want.Node) + "'s"
	case !slices.ContainsFunc(cas, func(c *x509.Certificate) bool { return cert.CheckSignatureFrom(c) == nil }):
		return DidMake, "it was from a CA that is not in " + CAFile
	case len(missing) > 0:
		return DidRenew, "it lacked " + strings.Join(missing, ", ")
	case o.Renew:
		return DidRenew, "asked for"
	case left < life/3:
		return DidRenew, fmt.Sprintf("%d of its %d days were left", max(0, left/day), life/day)
	}
	return DidKeep, ""
}

const day = 24 * time.Hour

// plain returns a host as hostsOf does.
func plain(host string) string {
	if ip := net.ParseIP(host); ip != nil {
		return ip.String()
	}
	return host
}

// issueInto writes a new key and certificate into a node's folder.
func (c *CA) issueInto(dir string, want Request, life time.Duration) (*x509.Certificate, error) {
	want.Life = life
	var hosts []string
	for _, h := range want.Hosts {
		if h = plain(h); !slices.Contains(hosts, h) {
			hosts = append(hosts, h)
		}
	}
	want.Hosts = hosts
	cert, key, err := c.Issue(want)
	if err != nil {
		return nil, err
	}
	if _, err := replace(filepath.Join(dir, KeyFile), key, 0o600); err != nil {
		return nil, err
	}
	if _, err := replace(filepath.Join(dir, CertFile), cert, 0o644); err != nil {
		return nil, err
	}
	all, err := parseCerts(cert)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// replace writes a file in one step and reports whether that changed it.
func replace(path string, content []byte, mode fs.FileMode) (bool, error) {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return false, nil
	}
	temp := path + ".new"
	if err := errors.Join(ignoreAbsent(os.Remove(temp)), create(temp, content, mode)); err != nil {
		return false, err
	}
	return true, os.Rename(temp, path)
}

// create writes a file that must not be there yet.
func create(path string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
