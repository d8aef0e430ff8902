package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// maxMembers bounds the voters of Raft: each of them hears of every decision.
const maxMembers = 9

type addMemberJSON struct {
	// Member is NAME=HOST[:HTTP[:RAFT[:POSTGRES]]][/TAG]…, as on xpd's command line.
	Member string `json:"member"`
	Reason string `json:"reason"`
}

type changeMemberJSON struct {
	Tags   []string `json:"tags"` // such as zone=b or nosync=false
	Reason string   `json:"reason"`
}

type reasonJSON struct {
	Reason string `json:"reason"`
}

type memberAnswer struct {
	Member memberJSON `json:"member"`
}

func (s *server) addMember(a asked[addMemberJSON]) (int, any, error) {
	m, err := pgcluster.ParseMember(a.in.Member)
	if err != nil {
		return 0, nil, invalid("member", err.Error())
	}
	if err := checkReason(a.in.Reason); err != nil {
		return 0, nil, err
	}
	// Nodes that are no members are asked on a leader only, and only once it is
	// known that the rules would take them: this is no way to scan a network.
	rules := explained(a.instead(a.in.Reason), func(st failover.State, v failover.View) (failover.State, error) {
		if len(st.Members) >= maxMembers {
			return st, &failover.RefusedError{Reason: fmt.Sprintf("there are %d nodes already", maxMembers)}
		}
		return failover.AddMember(st, v, s.Policy, m)
	})
	entry := a.entry("add "+m.String(), a.in.Reason)
	if err := s.mayAdd(a.Context(), m, rules); err != nil {
		if refused, ok := errors.AsType[*failover.RefusedError](err); ok {
			s.refuse(a.Context(), entry, refused.Reason)
		}
		return 0, nil, err
	}
	st, err := s.decide(a.Context(), entry, rules)
	return s.memberStatus(http.StatusAccepted, st, m.ID, err)
}

// mayAdd asks who is at the address of a new member, once the rules would take it.
func (s *server) mayAdd(ctx context.Context, m pgcluster.Member, rules rule) error {
	st, _ := s.State()
	if _, err := rules(st, s.View()); err != nil {
		return err
	}
	if s.Leader() != s.Self {
		return failover.ErrNotLeader
	}
	// A vote that outlived its member would be the newcomer's, who knows nothing yet.
	if slices.ContainsFunc(s.Servers(), func(v failover.Server) bool { return v.ID == m.ID }) {
		return &failover.RefusedError{Reason: fmt.Sprintf("%s is in the Raft group already: take another name", m.ID)}
	}
	who, err := s.Identify(ctx, m)
	if err != nil {
		return &failover.RefusedError{Reason: fmt.Sprintf("no xpd with the secret of this cluster answers at %s: "+
			"start it there with --join first (%v)", m.HTTPAddr(), shortly(err))}
	}
	return mayJoin(st, m, who)
}

// mayJoin refuses a node that is not who it is said to be, or belongs to another
// cluster.
func mayJoin(st failover.State, m pgcluster.Member, who pgcluster.Identity) error {
	switch {
	case who.Node != m.ID:
		return &failover.RefusedError{Reason: fmt.Sprintf("%s answers at %s, not %s", who.Node, m.HTTPAddr(), m.ID)}
	case len(who.Members) > 0 || who.Cluster != "":
		return &failover.RefusedError{Reason: fmt.Sprintf("%s has belonged to a cluster (PostgreSQL system %s, nodes %v): "+
			"a node joins with an empty folder and a new name", m.ID, orNone(who.Cluster), who.Members)}
	case who.SystemID != "" && who.SystemID != st.SystemID:
		return &failover.RefusedError{Reason: fmt.Sprintf("the data on %s are of another PostgreSQL system: %s, and this cluster is %s",
			m.ID, who.SystemID, st.SystemID)}
	}
	return nil
}

func (s *server) changeMember(a asked[changeMemberJSON]) (int, any, error) {
	if err := checkReason(a.in.Reason); err != nil {
		return 0, nil, err
	}
	if _, err := (pgcluster.Member{}).WithTags(a.in.Tags...); err != nil {
		return 0, nil, invalid("tags", err.Error())
	}
	id := memberID(a.Request)
	entry := a.entry(fmt.Sprintf("tags of %s: %s", id, strings.Join(a.in.Tags, " ")), a.in.Reason)
	st, err := s.decide(a.Context(), entry, explained(a.instead(a.in.Reason), func(st failover.State, v failover.View) (failover.State, error) {
		m, _ := st.Member(id)
		m.ID = id // the rules refuse one that is not known
		m, err := m.WithTags(a.in.Tags...)
		if err != nil {
			return st, err
		}
		return failover.ChangeMember(st, v, s.Policy, m)
	}))
	return s.memberStatus(http.StatusOK, st, id, err)
}

func (s *server) removeMember(a asked[reasonJSON]) (int, any, error) {
	if err := checkReason(a.in.Reason); err != nil {
		return 0, nil, err
	}
	id := memberID(a.Request)
	entry := a.entry(fmt.Sprintf("remove %s", id), a.in.Reason)
	st, err := s.decide(a.Context(), entry, explained(a.instead(a.in.Reason), func(st failover.State, v failover.View) (failover.State, error) {
		if m, known := st.Member(id); known && m.Leaving {
			return st, nil // it was asked for already
		}
		return failover.RemoveMember(st, v, s.Policy, id)
	}))
	return s.memberStatus(http.StatusAccepted, st, id, err)
}

func memberID(r *http.Request) pgcluster.NodeID { return pgcluster.NodeID(chi.URLParam(r, "id")) }

func (s *server) memberStatus(status int, st failover.State, id pgcluster.NodeID, err error) (int, any, error) {
	m, _ := st.Member(id)
	return status, memberAnswer{describe(m, s.Servers())}, err
}

// shortly returns what is at the root of an error.
func shortly(err error) error {
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return err
}

func orNone(text string) string {
	if text == "" {
		return "none yet"
	}
	return text
}
