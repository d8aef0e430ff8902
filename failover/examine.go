package failover

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Code names a kind of finding for monitoring. What a code means never changes.
type Code string

// Codes of findings.
const (
	CodeNoWrites     Code = "XPD-D001"
	CodeNoLeader     Code = "XPD-D002"
	CodeFewVoters    Code = "XPD-D003"
	CodeNotVoting    Code = "XPD-D004"
	CodeLeaderPlace  Code = "XPD-D005"
	CodePaused       Code = "XPD-D006"
	CodeHeld         Code = "XPD-D007"
	CodeNode         Code = "XPD-D008"
	CodeNotSpare     Code = "XPD-D009"
	CodeBehind       Code = "XPD-D010"
	CodeReplay       Code = "XPD-D011"
	CodeDisk         Code = "XPD-D012"
	CodeNoConnection Code = "XPD-D013"
	CodeNoWAL        Code = "XPD-D014"
	CodeLease        Code = "XPD-D015"
	CodePending      Code = "XPD-D016"
	CodeRefused      Code = "XPD-D017"
	CodeOverridden   Code = "XPD-D018"
	CodeWeak         Code = "XPD-D019"
	CodeLogicalSlot  Code = "XPD-D020"
	CodeSetAside     Code = "XPD-D021"
	CodeNoAnswer     Code = "XPD-D022"
	CodeUnheard      Code = "XPD-D023"
	CodeUnreached    Code = "XPD-D024"
	CodeOldState     Code = "XPD-D025"
	CodeClock        Code = "XPD-D026"
	CodeAbsent       Code = "XPD-D027"
	CodeFenced       Code = "XPD-D028"
)

// Severity says how soon a finding wants a person.
type Severity string

// Severities, from bad to good.
const (
	SeverityCritical Severity = "critical" // now
	SeverityWarning  Severity = "warning"  // today
	SeverityNotice   Severity = "notice"   // nothing is wrong
)

func (s Severity) rank() int {
	return slices.Index([]Severity{SeverityCritical, SeverityWarning, SeverityNotice}, s)
}

// Finding is something that a person should know, and what to do about it.
type Finding struct {
	Code     Code             `json:"code"`
	Severity Severity         `json:"severity"`
	Node     pgcluster.NodeID `json:"node,omitempty"` // that it is about, if it is about one
	Problem  string           `json:"problem"`
	Do       string           `json:"do"`
}

// SortFindings puts the worst first, and those alike in the order of their codes.
func SortFindings(fs []Finding) {
	slices.SortStableFunc(fs, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Severity.rank(), b.Severity.rank()), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Node, b.Node))
	})
}

// Group is the Raft group as one node knows it.
type Group struct {
	Leader    pgcluster.NodeID // "" if unknown
	Confirmed bool             // the node is in touch with the leader
	Servers   []Server
}

// Bounds beyond which something is found.
const (
	diskWarning  = 10 // percent free
	diskCritical = 5
	maxReplay    = 10 * time.Second
	maxClock     = time.Second
)

// Examine looks for what is wrong or soon will be, as one node sees the cluster. It
// decides nothing.
func Examine(s State, v View, p Policy, g Group) []Finding {
	x := examination{decision: decision{s: s, v: v, p: p}, status: Explain(s, v, p)}
	x.group(g)
	x.cluster()
	for _, n := range x.status.Nodes {
		if a := n.Absent; a != nil {
			x.leftOut(n.ID, *a)
			if a.Kind == AbsenceMaintenance {
				continue // whatever it is, people are about it
			}
		}
		if n.Age < 0 || n.State == "silent" {
			x.silent(n)
			continue
		}
		r := v.Reports[n.ID].Report
		x.standing(n, r)
		x.replication(n)
		x.disks(r)
		x.postgres(r)
		x.kept(r)
	}
	x.clocks()
	SortFindings(x.found)
	return x.found
}

type examination struct {
	decision
	status Status
	found  []Finding
}

func (x *examination) add(c Code, sev Severity, id pgcluster.NodeID, problem, do string) {
	x.found = append(x.found, Finding{Code: c, Severity: sev, Node: id, Problem: problem, Do: do})
}

func (x *examination) member(id pgcluster.NodeID) bool {
	_, ok := x.s.Member(id)
	return ok
}

// group looks at who votes, and who leads.
func (x *examination) group(g Group) {
	if !g.Confirmed {
		x.add(CodeNoLeader, SeverityCritical, "", "no Raft leader is heard: no failover can begin, and no change be made",
			"start xpd on the nodes that are down, or mend the network between them, until most of those that vote hear each other")
	}
	voters, there := 0, 0
	var gone []pgcluster.NodeID
	for _, srv := range g.Servers {
		if !srv.Voter {
			x.add(CodeNotVoting, SeverityWarning, srv.ID, "does not vote in Raft",
				"wait: a new node votes once it is stable; if it stays so, see the log of its xpd")
			continue
		}
		voters++
		if _, ok := x.v.report(srv.ID, x.p); ok {
			there++
		} else {
			gone = append(gone, srv.ID)
		}
	}
	do := "add a node, or a witness: pgctl node add NAME=HOST/witness"
	if len(gone) > 0 {
		do = "start xpd on " + list(gone) + ", or replace what is lost for good: pgctl node replace"
	}
	switch majority := voters/2 + 1; {
	case voters == 0:
	case there < majority:
		do = "start xpd on " + strings.ReplaceAll(list(gone), ", ", " or ") + "; if they are lost for good, xpd recover makes a new group of what is left"
		x.add(CodeFewVoters, SeverityCritical, "", fmt.Sprintf("%d of %d votes are there, and a majority needs %d", there, voters, majority), do)
	case there == majority:
		if !slices.ContainsFunc(gone, x.member) && len(gone) > 0 {
			do = "wait: " + list(gone) + " was removed, and Raft lets it go by itself"
		}
		x.add(CodeFewVoters, SeverityWarning, "", fmt.Sprintf("only as many votes are there as a majority needs: %d of %d", there, voters), do)
	}
	if g.Leader != "" && g.Leader == x.s.Primary.Node && voters > 1 {
		x.add(CodeLeaderPlace, SeverityWarning, g.Leader, "leads the Raft group and is the primary: the loss of one host would take both",
			"wait: leadership is moved away by itself; if it stays, no other node is well enough: see the findings about them")
	}
}

// cluster looks at what holds for all nodes.
func (x *examination) cluster() {
	if reason, blocked := strings.CutPrefix(x.status.Writes, "blocked: "); blocked {
		x.add(CodeNoWrites, SeverityCritical, "", "writes wait: "+reason, x.unblock())
	}
	if held := x.status.Held; held != "" {
		x.add(CodeHeld, SeverityCritical, "", "a failover is held back: "+held, "pgctl status shows the state; pgctl resume ends a pause")
	}
	if p := x.s.Paused; p != nil {
		x.add(CodePaused, SeverityWarning, "", fmt.Sprintf("paused until %s: %s", rfc3339(p.Until), p.Reason),
			"pgctl resume, once what it was for is done; it ends by itself then")
	}
	for _, loss := range x.status.IfDies {
		if !loss.Safe && x.s.Paused == nil {
			x.add(CodeNotSpare, SeverityWarning, loss.Node, "if it dies now: "+loss.Outcome,
				"bring back the nodes that are missing, or add one: pgctl node add")
		}
	}
}

// unblock says how writes go on.
func (x *examination) unblock() string {
	var silent []pgcluster.NodeID
	for _, n := range x.status.Nodes {
		if n.State == "silent" {
			silent = append(silent, n.ID)
		}
	}
	if len(silent) > 0 {
		return "bring back " + strings.ReplaceAll(list(silent), ", ", " or ") + "; writes then go on by themselves (pgctl status shows when)"
	}
	return "watch pgctl status -w; if nothing moves, see the findings about nodes, and the log of xpd there"
}

// leftOut tells of a node that people have the cluster do without.
func (x *examination) leftOut(id pgcluster.NodeID, a Absence) {
	if a.Kind == AbsenceFence {
		x.add(CodeFenced, SeverityWarning, id, a.String(), "once it may serve again: "+a.Ends(id))
		return
	}
	x.add(CodeAbsent, SeverityNotice, id, a.String(), "nothing: it ends by itself; or "+a.Ends(id))
}

// silent tells of a node that is not heard.
func (x *examination) silent(n NodeStatus) {
	heard := "was never heard"
	if n.Age >= 0 {
		heard = "was not heard for " + tenths(n.Age).String()
	}
	x.add(CodeNode, SeverityWarning, n.ID, heard,
		"start its host and xpd, or mend the network; if it is lost for good: pgctl node replace "+string(n.ID)+" NAME=HOST")
}

// standing tells of a node that is heard and not as it should be.
func (x *examination) standing(n NodeStatus, r pgcluster.Report) {
	if !n.Well() && n.Absent == nil {
		problem := "is " + n.State
		if why := cmp.Or(r.Order.Error, r.LastError); why != "" {
			problem += ": " + why
		}
		x.add(CodeNode, SeverityWarning, n.ID, problem, "wait: xpd mends what it can by itself; if it stays so, see the log of xpd there")
	}
	if m, _ := x.s.Member(n.ID); m.Data() && n.LeaseLeft <= 0 && x.s.Primary.Access == AccessOpen {
		x.add(CodeLease, SeverityWarning, n.ID, "holds no lease: it answers no requests",
			"see whether it hears the Raft leader; a node that has just started gets one by itself")
	}
}
