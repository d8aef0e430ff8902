package fence

import "time"

// Every is how often xpd speaks, and hang for how long it is silent at least before
// its helper acts.
const (
	Every = 250 * time.Millisecond
	hang  = time.Second
)

// Beat is what xpd tells its helper. Times are by lease.Boottime.
type Beat struct {
	Until   time.Duration `json:"until"`   // end of xpd's lease
	Primary bool          `json:"primary"` // PostgreSQL runs as a primary, or may become one
	Fenced  bool          `json:"fenced"`  // PostgreSQL must not outlive the lease
	Data    string        `json:"data"`    // PGDATA; empty if there is none
}

// Due reports whether PostgreSQL is to be closed at a moment: b, the last beat, came
// at heard, and the helper has been running without a break since awake. After a break
// xpd, which may have had it too, gets the chance to speak first.
func (b Beat) Due(now, heard, awake time.Duration) bool {
	return b.Fenced && now >= b.Until && now-max(heard, awake) >= hang
}
