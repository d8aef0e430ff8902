package agent

import (
	"cmp"
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/xpd-platform/xpd/pgcluster"
)

// What is not taken over although others may set it: xpd's way of noticing silence
// rests on the times, and its slots on the numbers.
var keptDefaults = []string{ //nolint:gochecknoglobals // a constant list
	"max_slot_wal_keep_size", "tcp_keepalives_count", "tcp_keepalives_idle", "tcp_keepalives_interval",
	"wal_receiver_status_interval", "wal_receiver_timeout", "wal_retrieve_retry_interval", "wal_sender_timeout",
}

// leastAdopted are numbers below which xpd keeps its default.
var leastAdopted = map[string]int{ //nolint:gochecknoglobals // a constant table
	"max_connections": 50, "max_replication_slots": 32, "max_wal_senders": 16, "superuser_reserved_connections": 5,
}

// readForeign reads the configuration that the data directory was last used with,
// which is in PGDATA or wherever its server was told. What cannot be read is left
// out: the data matters more.
func (a *Agent) readForeign(ctx context.Context) *adopted {
	ad := &adopted{DataDir: a.p.data, Settings: map[string]string{}}
	given := a.lastCommandLine()
	file := given["config_file"]
	if file == "" {
		file = filepath.Join(cmp.Or(given["data_directory"], a.p.data), "postgresql.conf")
	}
	found := map[string]string{}
	if err := readConfFile(file, found, 0); err != nil {
		a.log.WarnContext(ctx, "configuration to adopt not read", "error", err)
	}
	maps.Copy(found, given)
	for name, value := range found {
		if adoptable(name, value) {
			ad.Settings[name] = value
		}
	}
	for _, f := range []struct {
		setting, file string
		to            *[]string
		keep          func(string) bool
	}{
		{"hba_file", "pg_hba.conf", &ad.HBA, adoptableRule},
		{"ident_file", "pg_ident.conf", &ad.Ident, func(string) bool { return true }},
	} {
		path := found[f.setting]
		if path == "" {
			path = f.file
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(a.p.data, path)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			a.log.WarnContext(ctx, "configuration to adopt not read", "error", err)
			continue
		}
		*f.to = slices.DeleteFunc(ruleLines(string(b)), func(line string) bool { return !f.keep(line) })
	}
	return ad
}

func adoptable(name, value string) bool {
	if pgcluster.OwnedSetting(name) || !pgcluster.ValidSettingName(name) || !pgcluster.ValidSettingValue(value) ||
		slices.Contains(keptDefaults, name) || (name == "wal_level" && value != "logical") {
		return false
	}
	if least, ok := leastAdopted[name]; ok {
		n, err := strconv.Atoi(value)
		return err == nil && n >= least
	}
	return true
}

// adoptableRule reports whether a rule of pg_hba.conf is kept. Nobody but xpd's own
// standbys may stream: what else calls itself by a member's name would count as one.
// Rules of the local socket are void, which is in a folder of xpd's.
func adoptableRule(line string) bool {
	fields := ruleFields(line)
	if len(fields) < 4 || !strings.HasPrefix(fields[0][0], "host") {
		return false
	}
	files := slices.ContainsFunc(slices.Concat(fields[1], fields[2]), func(s string) bool { return strings.Contains(s, "@") })
	return !slices.Contains(fields[1], "replication") && !files
}

// ruleFields takes a rule apart as PostgreSQL does: blanks end a field unless they are
// in double quotes or follow a comma, which separates the values of one field. Quotes
// are kept; they turn a keyword into a name.
func ruleFields(line string) [][]string {
	var fields [][]string
	more := false // the next value is of the same field
	for {
		line = strings.TrimLeft(line, " \t,")
		if line == "" || line[0] == '#' {
			return fields
		}
		end, quoted := 0, false
		for ; end < len(line) && (quoted || !strings.ContainsRune(" \t,", rune(line[end]))); end++ {
			if line[end] == '"' {
				quoted = !quoted
			}
		}
		if more {
			fields[len(fields)-1] = append(fields[len(fields)-1], line[:end])
		} else {
			fields = append(fields, []string{line[:end]})
		}
		line = line[end:]
		more = strings.HasPrefix(line, ",")
	}
}

// lastCommandLine returns the settings on the command line of the server that runs on
// the data, or ran on it last.
func (a *Agent) lastCommandLine() map[string]string {
	var words []string
	if s := a.running(); s != nil {
		words = commandLine(s.pid)
	} else if b, err := os.ReadFile(filepath.Join(a.p.data, "postmaster.opts")); err == nil {
		// Each argument is in double quotes.
		for word := range strings.SplitSeq(strings.TrimSpace(string(b)), `" "`) {
			if i := strings.Index(word, ` "`); i >= 0 {
				word = word[i+2:]
			}
			words = append(words, strings.Trim(word, `"`))
		}
	}
	found := map[string]string{}
	for i, word := range words {
		long, isLong := strings.CutPrefix(word, "--")
		switch {
		case isLong:
			word = strings.ReplaceAll(long, "-", "_")
		case i > 0 && words[i-1] == "-D":
			word = "data_directory=" + word // or where the configuration is that names it
		case i == 0 || words[i-1] != "-c":
			continue
		}
		if name, value, ok := strings.Cut(word, "="); ok {
			found[strings.ToLower(name)] = value
		}
	}
	return found
}

const maxIncludes = 10

// readConfFile reads a configuration file, and what it includes, into found.
func readConfFile(path string, found map[string]string, depth int) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		name, value, ok := parseSetting(line)
		if !ok {
			continue
		}
		target := value
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		switch name {
		case "include", "include_if_exists", "include_dir":
			err = readIncluded(name, target, found, depth+1)
		default:
			found[name] = value
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readIncluded reads what a configuration file includes, unless that goes in circles.
func readIncluded(directive, target string, found map[string]string, depth int) error {
	files := []string{target}
	if directive == "include_dir" {
		var err error
		if files, err = filepath.Glob(filepath.Join(target, "[^.]*.conf")); err != nil {
			return err
		}
	}
	for _, file := range files {
		if depth > maxIncludes || (directive == "include_if_exists" && !exists(file)) {
			continue
		}
		if err := readConfFile(file, found, depth); err != nil {
			return err
		}
	}
	return nil
}

// parseSetting takes a line of a configuration file apart: a name, perhaps =, and a
// value, quoted or not.
func parseSetting(line string) (name, value string, ok bool) {
	line = strings.TrimSpace(line)
	end := strings.IndexAny(line, " \t='#")
	if end <= 0 {
		return "", "", false
	}
	name = strings.ToLower(line[:end])
	rest := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line[end:]), "="))
	if quoted, isQuoted := strings.CutPrefix(rest, "'"); isQuoted {
		value, ok = unquote(quoted)
		return name, value, ok
	}
	value, _, _ = strings.Cut(rest, "#")
	fields := strings.Fields(value)
	if len(fields) == 0 {
		return "", "", false
	}
	return name, fields[0], true
}

// unquote reads up to the closing quote. A backslash or another quote stands before a
// character that is meant.
func unquote(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		next := i+1 < len(s)
		switch {
		case c == '\'' && (!next || s[i+1] != '\''):
			return b.String(), true
		case (c == '\'' || c == '\\') && next:
			i++
			c = s[i]
		}
		b.WriteByte(c)
	}
	return "", false
}

// ruleLines returns the lines of pg_hba.conf or pg_ident.conf that say something. A
// backslash at the end of a line continues it.
func ruleLines(content string) []string {
	var all []string
	for line := range strings.Lines(strings.ReplaceAll(content, "\\\n", " ")) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			all = append(all, line)
		}
	}
	return all
}
