package pgcluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Config is what the cluster has agreed on and every node applies by itself, as soon
// as it learns of it, with no order.
type Config struct {
	Version  uint64            `json:"version"` // grows with every change of the rest
	Members  []Member          `json:"members,omitempty"`
	Settings map[string]string `json:"settings,omitempty"` // of PostgreSQL, on every node
}

// Equal reports whether both say the same, whatever their version.
func (c Config) Equal(o Config) bool {
	return slices.Equal(c.Members, o.Members) && maps.Equal(c.Settings, o.Settings)
}

const slotPrefix = "xpd_"

// SlotName names the physical replication slot through which node streams from the
// primary of epoch. A primary has the slots of its own epoch only, so that nobody
// streams from it on the orders of another one; and a slot serves one walsender at a
// time, so that a standby which reconnects is never two of K.
func SlotName(epoch uint64, node NodeID) string {
	return fmt.Sprintf("%s%d_%s", slotPrefix, epoch, node)
}

// ParseSlotName takes a name apart that SlotName made.
func ParseSlotName(name string) (epoch uint64, node NodeID, ok bool) {
	rest, found := strings.CutPrefix(name, slotPrefix)
	number, id, cut := strings.Cut(rest, "_")
	if !found || !cut {
		return 0, "", false
	}
	if _, err := fmt.Sscanf(number, "%d", &epoch); err != nil || SlotName(epoch, NodeID(id)) != name {
		return 0, "", false
	}
	return epoch, NodeID(id), true
}
