package history

import (
	"errors"
	"fmt"
	"slices"

	"github.com/xpd-platform/xpd/pgcluster"
)

// InOrder returns an error unless one node alone acknowledged on each timeline, and
// an acknowledgement that began after another had ended is on no earlier timeline
// and at a later LSN. An epoch that opens by a promotion has a timeline of its own;
// one that opens by a restart goes on with the node and the timeline of the one
// before. So the first says that each epoch has one source of acknowledgements,
// and the second that the order of LSNs agrees with the order of epochs.
func InOrder(acks []Ack) error {
	var errs []error
	sources := map[pgcluster.Timeline]Ack{}
	for _, a := range acks {
		first, known := sources[a.Timeline]
		if !known {
			sources[a.Timeline] = a
		} else if first.Node != a.Node {
			errs = append(errs, fmt.Errorf("both %s and %s acknowledged on timeline %d", first.Node, a.Node, a.Timeline))
			break
		}
	}
	began, ended := slices.Clone(acks), slices.Clone(acks)
	slices.SortFunc(began, func(a, b Ack) int { return a.Began.Compare(b.Began) })
	slices.SortFunc(ended, func(a, b Ack) int { return a.Ended.Compare(b.Ended) })
	var highest, latest Ack // of those that had ended: by LSN, by timeline
	for _, a := range began {
		for len(ended) > 0 && ended[0].Ended.Before(a.Began) {
			if ended[0].LSN > highest.LSN {
				highest = ended[0]
			}
			if ended[0].Timeline > latest.Timeline {
				latest = ended[0]
			}
			ended = ended[1:]
		}
		if a.LSN <= highest.LSN {
			errs = append(errs, fmt.Errorf("%s acknowledged %d:%v, although %s had acknowledged %d:%v before it began",
				a.Node, a.Timeline, a.LSN, highest.Node, highest.Timeline, highest.LSN))
			break
		}
		if a.Timeline < latest.Timeline {
			errs = append(errs, fmt.Errorf("%s acknowledged on timeline %d, although %s had acknowledged on %d before",
				a.Node, a.Timeline, latest.Node, latest.Timeline))
			break
		}
	}
	return errors.Join(errs...)
}
