package failover

import "time"

const (
	forgetAfter  = 10              // times the wait without a failover, and what was before is forgotten
	shortEpoch   = 5 * time.Second // an epoch that ends sooner did not hold
	shortAllowed = 4               // so many of them in a row may end without a wait
)

// cooldown returns how much longer a failover for f waits, because there were others
// shortly before. Evidence that may pass by itself, such as a link that comes and
// goes, must not have the role wander: after the first failover at once, each further
// one waits twice as long since the last. The longer the wait, the longer it takes
// without a failover until it is forgotten; so failovers that have nothing to do with
// each other do not wait.
//
// A primary that has certainly died is replaced at once, unless several in a row
// have hardly lived: then whatever kills them will kill the next one, too.
func (d *decision) cooldown(f finding) time.Duration {
	opened := d.v.Opened
	if len(opened) == 0 {
		return 0
	}
	level := 0
	for i, at := range opened {
		if i > 0 && d.forgotten(level, at-opened[i-1], f) {
			level = 0
		}
		level++
	}
	since := d.v.Now - opened[len(opened)-1]
	if d.forgotten(level, since, f) {
		return 0
	}
	if f.certain {
		level -= shortAllowed
	}
	return max(0, d.p.cooldown(level)-since)
}

// forgotten reports whether so long without a failover ends a series of them.
func (d *decision) forgotten(level int, quiet time.Duration, f finding) bool {
	limit := forgetAfter * d.p.cooldown(level)
	if f.certain {
		limit = max(shortEpoch, forgetAfter*d.p.cooldown(level-shortAllowed))
	}
	return quiet >= limit
}

// cooldown is the wait after so many failovers in a row.
func (p Policy) cooldown(level int) time.Duration {
	if level <= 0 {
		return 0
	}
	wait := p.Cooldown
	for i := 1; i < level && wait < p.CooldownMax; i++ {
		wait *= 2
	}
	return min(wait, p.CooldownMax)
}
