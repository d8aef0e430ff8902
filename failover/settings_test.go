package failover_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

func TestConfigure(t *testing.T) {
	t.Parallel()
	v := see(primary(), standby("n2"), standby("n3"))
	long := strings.Repeat("x", 1025)
	many := map[string]string{}
	for i := range 201 {
		many["a.x"+strings.Repeat("y", i%50)+string(rune('a'+i/50))] = ""
	}
	refused := []struct {
		name     string
		mode     failover.Mode
		k        int
		postgres map[string]string
	}{
		{"no such mode", "fast", 0, nil},
		{"k below 0", "", -1, nil},
		{"k that the standbys are too few for", "", 3, nil},
		{"a setting of xpd's", "", 0, map[string]string{"synchronous_standby_names": ""}},
		{"a timer that the rules rest on", "", 0, map[string]string{"wal_receiver_timeout": "60s"}},
		{"WAL kept without a bound", "", 0, map[string]string{"max_slot_wal_keep_size": "-1"}},
		{"a setting that reads a file", "", 0, map[string]string{"include": "/tmp/x"}},
		{"no name", "", 0, map[string]string{"Work Mem": "1"}},
		{"two lines", "", 0, map[string]string{"work_mem": "1\nfsync = off"}},
		{"too long", "", 0, map[string]string{"work_mem": long}},
		{"too many", "", 0, many},
	}
	for _, tt := range refused {
		if _, err := failover.Configure(steady(), v, policy, tt.mode, tt.k, tt.postgres); !isRefused(err) {
			t.Errorf("Configure() with %s = %v, want it refused", tt.name, err)
		}
	}
	alone := steady()
	alone.Settings.Mode = failover.ModeAvailable
	for i := range alone.Members {
		alone.Members[i].Leaving = alone.Members[i].ID != "n1"
	}
	if _, err := failover.Configure(alone, v, policy, failover.ModeProtect, 0, nil); !isRefused(err) {
		t.Errorf("Configure() that protects without a standby = %v, want it refused", err)
	}
	under := failing(failover.PhaseBarrier, chose("n2", "n3"))
	if _, err := failover.Configure(under, v, policy, "", 2, nil); !isRefused(err) {
		t.Errorf("Configure() during a failover = %v, want it refused", err)
	}
	if s, err := failover.Configure(under, v, policy, failover.ModeAvailable, 0, nil); err != nil || s.Settings.Mode != failover.ModeAvailable {
		t.Errorf("Configure() of the mode during a failover = %+v, %v", s.Settings, err)
	}
}

func TestConfigure_tellsWhatChanged(t *testing.T) {
	t.Parallel()
	v := see(primary(), standby("n2"), standby("n3"))
	s, err := failover.Configure(steady(), v, policy, failover.ModeAvailable, 2, map[string]string{"work_mem": "8MB", "max_connections": "300"})
	if err != nil {
		t.Fatal(err)
	}
	want := `mode available, was protect; k 2, was by default; max_connections "300", was by default; work_mem "8MB", was by default`
	if e := s.History[0]; e.Kind != "settings" || e.Reason != want {
		t.Errorf("event %q, want %q", e.Reason, want)
	}
	if s.Settings.Version != 1 {
		t.Errorf("version %d, want 1", s.Settings.Version)
	}
	same, err := failover.Configure(s, v, policy, failover.ModeAvailable, 2, map[string]string{"work_mem": "8MB", "max_connections": "300"})
	if err != nil || same.Settings.Version != 1 || len(same.History) != 1 {
		t.Errorf("the same again: version %d, %d events, %v", same.Settings.Version, len(same.History), err)
	}
	k, err := failover.Configure(s, v, policy, failover.ModeAvailable, 1, s.Settings.Postgres)
	if err != nil || k.Settings.Version != 1 {
		t.Errorf("another k: version %d, %v; want 1, since no node has to know", k.Settings.Version, err)
	}
}

// A cluster may be set up before it has started.
func TestConfigure_beforeTheFirstStart(t *testing.T) {
	t.Parallel()
	if _, err := failover.Configure(failover.State{Members: []pgcluster.Member{{ID: "n1"}, {ID: "n2"}}}, see(), policy, "", 1, nil); err != nil {
		t.Errorf("Configure() before the first start: %v", err)
	}
}

// States that older versions have saved go on to be read.
func TestSettings_decodesWhatIsGone(t *testing.T) {
	t.Parallel()
	var s failover.State
	old := `{"settings":{"postgres":{"max_connections":"200"},"version":3,"before":{"max_connections":"100"}}}`
	if err := json.Unmarshal([]byte(old), &s); err != nil || s.Settings.Version != 3 || s.Settings.Postgres["max_connections"] != "200" {
		t.Errorf("json.Unmarshal() = %v, settings %+v", err, s.Settings)
	}
}

// After a recovery from a node that lagged, agents know versions that nobody has agreed
// on. They ignore what is lower, so what is agreed on gets a version above all of them.
func TestStep_versionsThatWereLost(t *testing.T) {
	t.Parallel()
	has := func(version uint64) change { return func(r *pgcluster.Report) { r.Config = version } }
	s := steady()
	s.Settings.Version = 10
	same, _ := failover.Step(s, see(primary(has(10)), standby("n2", has(9)), standby("n3")), policy)
	if same.Settings.Version != 10 || len(same.History) > 0 {
		t.Errorf("version %d, history %v; want version 10 and nothing told", same.Settings.Version, same.History)
	}
	v := silent(see(primary(has(10)), standby("n2", has(10))), standby("n3", has(12)), time.Hour)
	for name, changed := range map[string]func() (failover.State, error){
		"nothing but time": func() (failover.State, error) { n, _ := failover.Step(s, v, policy); return n, nil },
		"settings": func() (failover.State, error) {
			return failover.Configure(s, v, policy, "", 0, map[string]string{"work_mem": "8MB"})
		},
		"tags": func() (failover.State, error) {
			m := s.Members[1]
			m.Priority = 1
			return failover.ChangeMember(s, v, policy, m)
		},
	} {
		got, err := changed()
		if err != nil || got.Settings.Version != 13 || eventKinds(got) == "" {
			t.Errorf("%s: version %d, history %q, %v; want 13, as one node has 12", name, got.Settings.Version, eventKinds(got), err)
		}
	}
}
