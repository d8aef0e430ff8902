package pgcluster_test

import (
	"slices"
	"testing"

	"github.com/xpd-platform/xpd/pgcluster"
)

func TestValidSettingName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"work_mem": true, "auto_explain.log_min_duration": true, "_x": true,
		"": false, "Work_Mem": false, "a\nfsync": false, "a = b": false, "a.b.c": false, "1a": false, "a-b": false,
	} {
		if got := pgcluster.ValidSettingName(name); got != want {
			t.Errorf("ValidSettingName(%q) = %v", name, got)
		}
	}
}

func TestOwnedSetting(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"fsync", "synchronous_standby_names", "include", "primary_slot_name"} {
		if !pgcluster.OwnedSetting(name) {
			t.Errorf("%s may be set by anybody", name)
		}
	}
	if pgcluster.OwnedSetting("work_mem") {
		t.Error("work_mem belongs to the agent")
	}
	if all := pgcluster.OwnedSettings(); !slices.IsSorted(all) {
		t.Errorf("not sorted: %v", all)
	}
}
