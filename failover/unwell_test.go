package failover_test

import (
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
)

// A failover knows for how long the primary had not been well when it was decided.
func TestStep_unwell(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		view failover.View
		want time.Duration
	}{
		"seen at once": {see(primary(crashed), standby("n2"), standby("n3")), 0},
		"silent":       {silent(see(standby("n2", deaf), standby("n3", deaf)), primary(), 1700*time.Millisecond), 1700 * time.Millisecond},
		"stuck disk":   {see(primary(stuck), standby("n2"), standby("n3")), 5 * time.Second},
		"nobody in":    {see(primary(refuses), standby("n2"), standby("n3")), 2 * time.Second},
	} {
		next, _ := failover.Step(steady(), tt.view, policy)
		if next.Op == nil || next.Op.Unwell != tt.want {
			t.Errorf("%s: %+v, want a failover from a primary unwell for %s", name, next.Op, tt.want)
		}
	}
}
