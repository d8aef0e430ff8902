package pgcluster

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
)

// NodeID names a host of the cluster for good; a name is never used again for
// another host. It is also the node's application_name in PostgreSQL.
type NodeID string

var nodeID = regexp.MustCompile(`^[a-z][a-z0-9_]{0,30}$`)

// ParseNodeID accepts lower-case letters, digits and underscores, starting with
// a letter, at most 31 characters: what needs no quoting in PostgreSQL.
func ParseNodeID(s string) (NodeID, error) {
	if !nodeID.MatchString(s) {
		return "", fmt.Errorf("node name %q: want a lower-case letter, then up to 30 lower-case letters, digits or underscores", s)
	}
	return NodeID(s), nil
}

// Member is one host as every other host reaches it.
type Member struct {
	ID       NodeID `json:"id"`
	Host     string `json:"host"`
	HTTPPort int    `json:"http_port"`
	RaftPort int    `json:"raft_port"`
	PGPort   int    `json:"pg_port"`

	Witness    bool   `json:"witness,omitempty"`    // votes in Raft and runs no PostgreSQL; its PGPort is not used
	Zone       string `json:"zone,omitempty"`       // hosts that may fail together share one
	Priority   int    `json:"priority,omitempty"`   // of equals, the higher is promoted
	NoFailover bool   `json:"nofailover,omitempty"` // is never promoted
	NoSync     bool   `json:"nosync,omitempty"`     // no commit waits for it, so that it is never promoted without being asked for
	Leaving    bool   `json:"leaving,omitempty"`    // on its way out: neither waited for nor promoted
}

// Data reports whether the member runs a PostgreSQL.
func (m Member) Data() bool { return !m.Witness }

// Ports that ParseMembers assumes where none is given.
const (
	DefaultHTTPPort = 8300
	DefaultRaftPort = 8400
	DefaultPGPort   = 5432
)

// HTTPAddr is where the member's xpd serves HTTP.
func (m Member) HTTPAddr() string { return net.JoinHostPort(m.Host, fmt.Sprint(m.HTTPPort)) }

// RaftAddr is where the member's xpd speaks Raft.
func (m Member) RaftAddr() string { return net.JoinHostPort(m.Host, fmt.Sprint(m.RaftPort)) }

// PGAddr is where the member's PostgreSQL listens.
func (m Member) PGAddr() string { return net.JoinHostPort(m.Host, fmt.Sprint(m.PGPort)) }

// String returns m as ParseMembers reads it.
func (m Member) String() string {
	host := m.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("%s=%s:%d:%d:%d%s", m.ID, host, m.HTTPPort, m.RaftPort, m.PGPort, m.tags())
}

// FormatMembers returns a cluster definition as ParseMembers reads it.
func FormatMembers(members []Member) string {
	parts := make([]string, len(members))
	for i, m := range members {
		parts[i] = m.String()
	}
	return strings.Join(parts, ",")
}

// ParseMembers reads a cluster definition: comma-separated
// NAME=HOST[:HTTP[:RAFT[:POSTGRES]]][/TAG]… with an IPv6 host in brackets, such as
// n1=10.0.0.1,n2=10.0.0.2/zone=b,n3=[::1]:8300:8400:5432/witness. Tags are witness,
// zone=NAME, priority=NUMBER, nofailover and nosync. Members come back sorted by
// name; names and addresses must be distinct.
func ParseMembers(s string) ([]Member, error) {
	var members []Member
	addrs := map[string]NodeID{}
	for part := range strings.SplitSeq(s, ",") {
		m, err := ParseMember(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		for _, a := range m.addrs() {
			if other, taken := addrs[a]; taken {
				return nil, fmt.Errorf("cluster: %s and %s both use address %s", other, m.ID, a)
			}
			addrs[a] = m.ID
		}
		if slices.ContainsFunc(members, func(o Member) bool { return o.ID == m.ID }) {
			return nil, fmt.Errorf("cluster: node %s is named twice", m.ID)
		}
		members = append(members, m)
	}
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return members, nil
}

// addrs are the addresses that m alone may use.
func (m Member) addrs() []string {
	if m.Witness {
		return []string{m.HTTPAddr(), m.RaftAddr()}
	}
	return []string{m.HTTPAddr(), m.RaftAddr(), m.PGAddr()}
}

// ParseMember reads one member as ParseMembers does.
func ParseMember(s string) (Member, error) {
	name, rest, ok := strings.Cut(s, "=")
	if !ok || rest == "" {
		return Member{}, fmt.Errorf("cluster member %q: want NAME=HOST[:HTTP[:RAFT[:POSTGRES]]][/TAG]…", s)
	}
	id, err := ParseNodeID(name)
	if err != nil {
		return Member{}, err
	}
	m := Member{ID: id, HTTPPort: DefaultHTTPPort, RaftPort: DefaultRaftPort, PGPort: DefaultPGPort}
	addr, tags, tagged := strings.Cut(rest, "/")
	if tagged {
		if m, err = m.WithTags(strings.Split(tags, "/")...); err != nil {
			return Member{}, fmt.Errorf("cluster member %q: %w", s, err)
		}
	}
	return m.withAddress(s, addr)
}

func (m Member) withAddress(s, addr string) (Member, error) {
	host, rest := addr, ""
	if strings.HasPrefix(addr, "[") {
		end := strings.Index(addr, "]")
		if end < 0 {
			return Member{}, fmt.Errorf("cluster member %q: missing ] after the IPv6 address", s)
		}
		host, rest = addr[1:end], strings.TrimPrefix(addr[end+1:], ":")
	} else if h, r, found := strings.Cut(addr, ":"); found {
		host, rest = h, r
	}
	m.Host = host
	if host == "" {
		return Member{}, fmt.Errorf("cluster member %q: the host is empty", s)
	}
	if rest == "" {
		return m, nil
	}
	return m.withPorts(s, strings.Split(rest, ":"))
}

func (m Member) withPorts(s string, ports []string) (Member, error) {
	targets := []*int{&m.HTTPPort, &m.RaftPort, &m.PGPort}
	if len(ports) > len(targets) {
		return Member{}, fmt.Errorf("cluster member %q: more than three ports (an IPv6 host needs brackets)", s)
	}
	for i, p := range ports {
		var n int
		if _, err := fmt.Sscanf(p, "%d", &n); err != nil || n < 1 || n > 65535 || fmt.Sprint(n) != p {
			return Member{}, fmt.Errorf("cluster member %q: port %q is not a number from 1 to 65535", s, p)
		}
		*targets[i] = n
	}
	return m, nil
}
