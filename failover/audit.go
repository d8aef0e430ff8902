package failover

import (
	"reflect"
	"slices"
	"time"
	"unicode/utf8"
)

// AuditEntry is a line of the audit trail: what somebody asked of the cluster.
type AuditEntry struct {
	At time.Time `json:"at"` // by the clock of the leader of that time

	Asker

	Epoch   uint64 `json:"epoch"`
	Action  string `json:"action"` // with its target and parameters
	Reason  string `json:"reason,omitempty"`
	Op      uint64 `json:"op,omitempty"`      // number of the operation that it began
	Refused string `json:"refused,omitempty"` // why it was not done; never in a State
}

// Bounds of the audit trail. Raft's log has each line once, its snapshots all of them.
const (
	maxAudit     = 200
	maxAuditText = 240 // bytes of an action, and of a reason
	maxAuditName = 64  // bytes of each of the others
)

// WithAudit returns next, which somebody had s changed into, with a line that says so.
// Both are agreed on in one entry of Raft: no change is made without its line, and no
// line is there for what was not done. Where nothing was changed there is no line.
func WithAudit(s, next State, v View, e AuditEntry) State {
	if reflect.DeepEqual(s, next) {
		return next
	}
	e.At, e.Epoch = v.Wall.UTC().Round(0), s.Primary.Epoch
	if op := next.Op; op != nil && (s.Op == nil || s.Op.ID != op.ID) {
		e.Op = op.ID
	}
	e.Name, e.Operator, e.From = clip(e.Name, maxAuditName), clip(e.Operator, maxAuditName), clip(e.From, maxAuditName)
	e.Action, e.Reason, e.Refused = clip(e.Action, maxAuditText), clip(e.Reason, maxAuditText), ""
	kept := next.Audit[max(0, len(next.Audit)+1-maxAudit):]
	next.Audit = append(slices.Clone(kept), e) // what was there is shared with others
	return next
}

// clip shortens a text to so many bytes, not within a character.
func clip(text string, most int) string {
	const dots = "…"
	if len(text) <= most {
		return text
	}
	cut := most - len(dots)
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + dots
}
