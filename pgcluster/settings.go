package pgcluster

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var settingName = regexp.MustCompile(`^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$`)

// ValidSettingName reports whether name can be that of a PostgreSQL setting, written
// as PostgreSQL shows it. Whether there is such a setting only PostgreSQL knows.
func ValidSettingName(name string) bool { return len(name) <= 63 && settingName.MatchString(name) }

// OwnedSetting reports whether nobody but a node's agent may set name, because the
// promises rest on it.
func OwnedSetting(name string) bool { return slices.Contains(ownedSettings, name) }

// OwnedSettings returns the names of all of them, sorted.
func OwnedSettings() []string { return slices.Clone(ownedSettings) }

// include and its like are no settings: in a file they read another one, which could
// set anything.
var ownedSettings = []string{ //nolint:gochecknoglobals // a constant list
	"config_file", "data_directory", "data_sync_retry", "default_transaction_read_only", "external_pid_file",
	"fsync", "full_page_writes", "hba_file", "hot_standby", "ident_file", "include", "include_dir",
	"include_if_exists", "lc_messages", "listen_addresses", "log_destination", "logging_collector", "port",
	"primary_conninfo", "primary_slot_name", "promote_trigger_file", "recovery_target", "recovery_target_action",
	"recovery_target_inclusive", "recovery_target_lsn", "recovery_target_name", "recovery_target_time",
	"recovery_target_timeline", "recovery_target_xid", "restart_after_crash", "restore_command",
	"synchronous_commit", "synchronous_standby_names", "unix_socket_directories", "unix_socket_permissions",
	"wal_log_hints",
}

// timer is a setting in which people may choose, within bounds.
type timer struct {
	least, most time.Duration
	unit        time.Duration // of a number without one
	why         string
}

// timers are what the bounds of failover.Policy rest on.
var timers = map[string]timer{ //nolint:gochecknoglobals // a constant table
	"wal_receiver_timeout": {
		time.Second, 2 * time.Second, time.Millisecond,
		"after half of it a standby asks for a sign of life, by which it vouches for an idle primary",
	},
	"wal_sender_timeout": {
		time.Second, 5 * time.Second, time.Millisecond,
		"a standby whose host fell silent counts as streaming for so long, and writes wait for it",
	},
	"wal_retrieve_retry_interval": {
		time.Millisecond, time.Second, time.Millisecond,
		"a standby waits for so long before it connects to a new primary, and writes with it",
	},
	"wal_receiver_status_interval": {
		time.Second, 5 * time.Second, time.Second,
		"that often an idle standby says how far it is, which changes of the sync set and switchovers look at",
	},
}

// Timers returns the names of the settings that have such bounds, sorted.
func Timers() []string { return slices.Sorted(maps.Keys(timers)) }

// Unbearable says why the promises cannot be kept with a setting, or "". What PostgreSQL
// itself makes of the value is not looked at.
func Unbearable(name, value string) string {
	if name == "max_slot_wal_keep_size" && strings.HasPrefix(strings.TrimSpace(value), "-") {
		return "want a bound: a standby that is away would fill the disk of the primary with WAL"
	}
	t, bounded := timers[name]
	if !bounded {
		return ""
	}
	d, ok := duration(value, t.unit)
	if !ok || d < t.least || d > t.most {
		return fmt.Sprintf("want %s to %s, such as %dms: %s", t.least, t.most, t.most.Milliseconds(), t.why)
	}
	return ""
}

// duration reads a time as PostgreSQL writes it.
func duration(value string, unit time.Duration) (time.Duration, bool) {
	value = strings.TrimSpace(value)
	number := strings.TrimRight(value, "adhimnsu")
	switch value[len(number):] {
	case "":
	case "us":
		unit = time.Microsecond
	case "ms":
		unit = time.Millisecond
	case "s":
		unit = time.Second
	case "min":
		unit = time.Minute
	case "h":
		unit = time.Hour
	case "d":
		unit = 24 * time.Hour
	default:
		return 0, false
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	// What is too large for a Duration is too large anyway.
	return time.Duration(min(n, 1e6) * float64(unit)), err == nil && n >= 0
}

// ValidSettingValue reports whether a configuration file can hold value.
func ValidSettingValue(value string) bool {
	return len(value) <= 1024 && !strings.ContainsAny(value, "\r\n\x00")
}

// RunningSetting is a setting with which a node's PostgreSQL runs.
type RunningSetting struct {
	Name    string `json:"name"`
	Value   string `json:"value"`             // as SHOW tells it, with a unit
	Written string `json:"written,omitempty"` // what the configuration files say last, as they say it
	File    string `json:"file,omitempty"`    // the one that says so; without one PostgreSQL was told otherwise
	Pending bool   `json:"pending_restart,omitempty"`
}
