package pgstore

import (
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/xpd-platform/xpd/experiment"
)

// moment is a stretch in which the rows of a unit that were complete once remain
// as good as complete: one version of the definitions between two boundaries of
// their schedules.
type moment struct {
	version    int64
	generation int
}

// cache holds the rows of the units that were asked for last.
type cache struct {
	units *lru.Cache[experiment.UnitKey, cached]
}

type cached struct {
	at   moment
	rows []experiment.Assignment // never changed once in here
}

func newCache(units int) (cache, error) {
	c, err := lru.New[experiment.UnitKey, cached](units)
	return cache{c}, err
}

// get returns the rows of a unit if they were complete in that moment.
func (c cache) get(key experiment.UnitKey, at moment) ([]experiment.Assignment, bool) {
	hit, ok := c.units.Get(key)
	if !ok || hit.at != at {
		return nil, false
	}
	return hit.rows, true
}

func (c cache) put(key experiment.UnitKey, at moment, rows []experiment.Assignment) {
	c.units.Add(key, cached{at, rows})
}
