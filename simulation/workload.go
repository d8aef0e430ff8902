package simulation

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/xpd-platform/xpd/experiment"
)

// kind is what a shopper does.
type kind uint8

const (
	kindNew       kind = iota + 1 // asks for the treatments of a unit that nobody has seen
	kindReturning                 // asks for those of a unit that was seen before
	kindExposure                  // confirms that a unit saw its treatments
	kindPurchase                  // buys something
	kindPing                      // asks for nothing: the noise floor
)

func (k kind) String() string {
	switch k {
	case kindNew:
		return "treatments of a new unit"
	case kindReturning:
		return "treatments of a returning unit"
	case kindExposure:
		return "exposure"
	case kindPurchase:
		return "purchase"
	case kindPing:
		return "ping"
	}
	return "invalid"
}

// For each shopper that asks for treatments, how many others expose or purchase.
const (
	newShare    = 0.5
	exposeShare = 0.4
	buyShare    = 0.1
)

// arrival is one request of a stream.
type arrival struct {
	at         time.Duration // when it is due, from the start of the stream
	kind       kind
	unit       int // number of the shopper; those of new ones count up from 0
	event      experiment.EventID
	itemsTotal int64
	discounts  int64
}

// workload is the endless stream of a shop's requests. It is a function of its
// seed and rate alone: Poisson arrivals, of which each kind has a fixed share.
type workload struct {
	rng   *rand.Rand
	rate  float64 // of all kinds together, per second
	at    time.Duration
	units int // seen so far
}

// newWorkload returns a stream in which treatments are asked for at rate per
// second; exposures and purchases come on top.
func newWorkload(seed uint64, rate float64) *workload {
	return &workload{rng: rand.New(rand.NewPCG(seed, 0x73686f70)), rate: rate * (1 + exposeShare + buyShare)}
}

func (w *workload) next() arrival {
	w.at += poisson(w.rng, w.rate)
	a := arrival{at: w.at, kind: w.draw()}
	if a.kind == kindNew {
		a.unit = w.units
		w.units++
		return a
	}
	a.unit = w.rng.IntN(w.units)
	if a.kind == kindPurchase {
		a.event = newEventID(w.rng)
		a.itemsTotal = 100 + w.rng.Int64N(20_000)
		a.discounts = w.rng.Int64N(a.itemsTotal / 4)
	}
	return a
}

func (w *workload) draw() kind {
	x := w.rng.Float64() * (1 + exposeShare + buyShare)
	switch {
	case w.units == 0 || x < newShare:
		return kindNew
	case x < 1:
		return kindReturning
	case x < 1+exposeShare:
		return kindExposure
	default:
		return kindPurchase
	}
}

// pings is the endless stream of empty requests.
type pings struct {
	rng  *rand.Rand
	rate float64
	at   time.Duration
}

func newPings(seed uint64, rate float64) *pings {
	return &pings{rng: rand.New(rand.NewPCG(seed, 0x70696e67)), rate: rate}
}

func (p *pings) next() arrival {
	p.at += poisson(p.rng, p.rate)
	return arrival{at: p.at, kind: kindPing}
}

// poisson draws the time until the next of independent arrivals.
func poisson(rng *rand.Rand, rate float64) time.Duration {
	return time.Duration(rng.ExpFloat64() / rate * float64(time.Second))
}

// newEventID draws a random (version 4) UUID.
func newEventID(rng *rand.Rand) experiment.EventID {
	var id experiment.EventID
	binary.BigEndian.PutUint64(id[:8], rng.Uint64())
	binary.BigEndian.PutUint64(id[8:], rng.Uint64())
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}
