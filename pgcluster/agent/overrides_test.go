package agent_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xpd-platform/xpd/pgcluster"
)

// What somebody did by ALTER SYSTEM since the barrier does not come into force with the
// reload that opens the primary.
func TestAgent_looksBeforeItOpens(t *testing.T) {
	t.Parallel()
	n1 := initialized(t, 2, true)[0]
	lead := pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(1, 20), Sync: anyOf(1, "n2"), Barrier: true}
	n1.do(lead)
	exec(t, n1.admin(), "ALTER SYSTEM SET synchronous_standby_names = ''")
	exec(t, n1.admin(), "ALTER SYSTEM SET wal_sender_timeout = 0")
	lead.Stamp, lead.Open = stamp(1, 21), true
	if r := n1.do(lead); !mentions(r.Overrides, "synchronous_standby_names= at ") || !mentions(r.Overrides, "wal_sender_timeout=0 at ") {
		t.Errorf("overrides: %q", r.Overrides)
	}
	log, err := os.ReadFile(filepath.Join(n1.o.Dir, "pg", "log", "postgres.log"))
	if err != nil || !strings.Contains(string(log), `"synchronous_standby_names" changed to "ANY 1 (n2)"`) ||
		strings.Contains(string(log), `"synchronous_standby_names" changed to ""`) {
		t.Errorf("the override was in force: %v, %s", err, log)
	}
}
