package pgcluster

import (
	"regexp"
	"slices"
	"strings"
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
