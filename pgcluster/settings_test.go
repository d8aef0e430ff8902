package pgcluster_test

import (
	"slices"
	"strings"
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

func TestUnbearable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, value, want string }{
		{"work_mem", "-1", ""},
		{"wal_receiver_timeout", "2s", ""},
		{"wal_receiver_timeout", " 1500 ms ", ""},
		{"wal_receiver_timeout", "2000", ""},
		{"wal_receiver_timeout", "2001", "an idle primary"},
		{"wal_receiver_timeout", "0", "an idle primary"},
		{"wal_receiver_timeout", "60s", "want 1s to 2s, such as 2000ms"},
		{"wal_receiver_timeout", "0.5s", "an idle primary"},
		{"wal_receiver_timeout", "NaN", "an idle primary"},
		{"wal_receiver_timeout", "soon", "an idle primary"},
		{"wal_receiver_timeout", "", "an idle primary"},
		{"wal_sender_timeout", "5s", ""},
		{"wal_sender_timeout", "0", "writes wait for it"},
		{"wal_sender_timeout", "1min", "writes wait for it"},
		{"wal_sender_timeout", "1e300d", "writes wait for it"},
		{"wal_retrieve_retry_interval", "1s", ""},
		{"wal_retrieve_retry_interval", "5000", "a new primary"},
		{"wal_receiver_status_interval", "1", ""},
		{"wal_receiver_status_interval", "0", "how far it is"},
		{"wal_receiver_status_interval", "10", "how far it is"},
		{"max_slot_wal_keep_size", "64MB", ""},
		{"max_slot_wal_keep_size", "-1", "fill the disk"},
	} {
		got := pgcluster.Unbearable(tt.name, tt.value)
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("Unbearable(%s, %q) = %q, want %q", tt.name, tt.value, got, tt.want)
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
