package simulation_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/pgcluster"
)

// masker replaces what differs from run to run in what pgctl says, and nothing else.
type masker struct {
	epoch   uint64 // shown as E, the next one as E+1
	members []pgcluster.Member
}

const (
	pgctlWidth = 80 // at which pgctl wraps lines
	whyKept    = 20 // characters of a reason that the table of the history cut
)

var masks = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z`), "<time>"},
	{regexp.MustCompile(`^\d{4}-\d\d-\d\d$`), "<day>"},
	{regexp.MustCompile(`\b\d+:[0-9A-F]+/[0-9A-F]+\b`), "<TL>:<LSN>"},
	{regexp.MustCompile(`^ *\d+ ms\b`), "<ms>"},
	{regexp.MustCompile(`\b\d+ ms\b`), "<ms>"},
	{regexp.MustCompile(`\b\d+ (B|kB|MB|GB|bytes)\b`), "<bytes>"},
	{regexp.MustCompile(`\b\d+(\.\d+)?[smhd] ago\b`), "<ago>"},
	{regexp.MustCompile(`\b(\d+h)?(\d+m)?\d+(\.\d+)?s\b`), "<duration>"},
	{regexp.MustCompile(`Raft leader n\d+$`), "Raft leader <leader>"},
	{regexp.MustCompile(`(\S) {2,}`), "$1  "}, // what is left of columns
}

// columns of tables whose cells are masked; one that says nothing is left alone.
var maskedColumns = map[string]string{
	"TL": "<TL>", "LSN": "<LSN>", "GAP": "<bytes>", "LAG": "<duration>", "SEEN": "<ago>", "TIME": "<time>", "TOOK": "<ms>",
}

// passing is a line about what PostgreSQL logged last before it died, or what a node is at
// in this moment: chance, both.
var passing = regexp.MustCompile(`^n\d+(: FATAL| is busy): `)

// begins is a line of its own, however long the one before is.
var begins = regexp.MustCompile(`^  what to do: |^    writes paused for `)

var epochs = regexp.MustCompile(`\bepoch \d+`)

// text masks what pgctl printed. Lines that it wrapped are made whole, because where
// depends on what is masked.
func (m *masker) text(s string) string {
	var out []string
	var header []column
	for _, line := range unwrapped(s) {
		switch {
		case passing.MatchString(line):
			continue
		case line == "":
			header = nil
		case strings.HasPrefix(line, "NODE  "), strings.HasPrefix(line, "TIME  "):
			header = columnsOf(line)
		case header != nil && strings.Contains(line, "  "):
			line = m.row(header, line)
		}
		out = append(out, m.line(line))
	}
	return keptWAL.ReplaceAllString(strings.Join(out, "\n"), "$1")
}

// keptWAL is the notice of WAL that was set aside, and its count: whether an earlier chapter
// left any is chance.
var keptWAL = regexp.MustCompile(`, \d+ notices?(;)|XPD-D021 notice .*\n  what to do: .*\n\n`)

// unwrapped joins lines that were wrapped: those whose first word did not fit the
// line before.
func unwrapped(s string) []string {
	var out []string
	last := 0 // width of the line before, as printed
	for line := range strings.SplitSeq(s, "\n") {
		words := strings.Fields(line)
		goesOn := len(out) > 0 && strings.HasPrefix(line, "  ") && len(words) > 0 && !begins.MatchString(line) &&
			last+1+utf8.RuneCountInString(words[0]) > pgctlWidth
		last = utf8.RuneCountInString(line)
		if goesOn {
			out[len(out)-1] += " " + strings.TrimLeft(line, " ")
		} else {
			out = append(out, line)
		}
	}
	return out
}

func (m *masker) line(s string) string {
	for _, member := range m.members {
		s = strings.ReplaceAll(s, member.String(), "<"+string(member.ID)+">")
		s = strings.ReplaceAll(s, member.HTTPAddr(), "<HTTP of "+string(member.ID)+">")
		s = strings.ReplaceAll(s, member.PGAddr(), "<PostgreSQL of "+string(member.ID)+">")
	}
	s = epochs.ReplaceAllStringFunc(s, func(found string) string { return "epoch " + m.relative(strings.TrimPrefix(found, "epoch ")) })
	for _, mask := range masks {
		s = mask.what.ReplaceAllString(s, mask.with)
	}
	return s
}

// relative shows an epoch by its distance from the one at the beginning.
func (m *masker) relative(s string) string {
	n, err := strconv.ParseUint(s, 10, 64)
	switch {
	case err != nil:
		return s
	case n == m.epoch:
		return "E"
	}
	return fmt.Sprintf("E%+d", int64(n)-int64(m.epoch))
}

// column of a table begins at a rune of each line.
type column struct {
	name string
	at   int
}

func columnsOf(header string) []column {
	var out []column
	for i, r := range header {
		if r != ' ' && (i == 0 || header[i-1] == ' ') {
			name, _, _ := strings.Cut(header[i:], " ")
			out = append(out, column{name, i})
		}
	}
	return out
}

// row masks the cells of a line.
func (m *masker) row(header []column, line string) string {
	runes := []rune(line)
	var cells []string
	for i, c := range header {
		end := len(runes)
		if i+1 < len(header) {
			end = min(end, header[i+1].at)
		}
		cell := strings.TrimSpace(string(runes[min(c.at, end):end]))
		mask, masked := maskedColumns[c.name]
		switch {
		case cell == "":
			cell = "."
		case c.name == "LAG": // of a node that is gone it may never have been known
			cell = mask
		case slices.Contains([]string{"?", "-", "never"}, cell):
		case masked:
			cell = mask
		case c.name == "EPOCH":
			cell = m.relative(cell)
		case c.name == "WHY" && strings.HasSuffix(cell, "…"):
			cell = string([]rune(cell)[:whyKept]) + "…"
		}
		cells = append(cells, cell)
	}
	return strings.TrimRight(strings.Join(cells, "  "), " ")
}

func TestMasker(t *testing.T) {
	t.Parallel()
	member, err := pgcluster.ParseMember("n1=127.0.0.1:18301:18401:15501")
	if err != nil {
		t.Fatal(err)
	}
	m := &masker{epoch: 3, members: []pgcluster.Member{member}}
	tests := []struct{ name, in, want string }{
		{
			"a status",
			"epoch 3, primary n1, sync ANY 1 (n2, n3)\n\n" +
				"NODE  ROLE     STATE   TL  LSN        GAP     LAG   SYNC  SEEN\n" +
				"n1    primary  open    3   0/50767E0  0 B     0.0s  -     0.0s ago\n" +
				"n2    standby  silent  3   0/504B128  173 kB  ?     sync  78.4s ago\n" +
				"n2: FATAL: the database system is in recovery mode\nn2 is busy: rewinding to n1\n\nseen by n1; Raft leader n2\n",
			"epoch E, primary n1, sync ANY 1 (n2, n3)\n\n" +
				"NODE  ROLE  STATE  TL  LSN  GAP  LAG  SYNC  SEEN\n" +
				"n1  primary  open  <TL>  <LSN>  <bytes>  <duration>  -  <ago>\n" +
				"n2  standby  silent  <TL>  <LSN>  <bytes>  <duration>  sync  <ago>\n" +
				"\nseen by n1; Raft leader <leader>\n",
		},
		{
			"a history",
			"TIME        EPOCH  WHAT        NODES     TOOK    WHY\n2026-11-22\n" +
				"03:25:12Z   2      grow        n3                n3 streams: sync set is ANY 1 (n2…\n" +
				"03:27:15Z   4      switchover  n1 -> n2  874 ms  kernel update on n1 (by ann)\n" +
				"pgctl history EPOCH tells all about an epoch\n",
			"TIME  EPOCH  WHAT  NODES  TOOK  WHY\n<day>\n" +
				"<time>  E-1  grow  n3  .  n3 streams: sync set…\n" +
				"<time>  E+1  switchover  n1 -> n2  <ms>  kernel update on n1 (by ann)\n" +
				"pgctl history EPOCH tells all about an epoch\n",
		},
		{
			"lines that were wrapped",
			"what to do: only if nobody can bring back n1 or n3: pgctl plan failover, then\n" +
				"  pgctl failover (at least 8192 bytes of WAL are lost, from 3:16/B374B848)\n  what to do: wait 1m42.5s\n",
			"what to do: only if nobody can bring back n1 or n3: pgctl plan failover, then " +
				"pgctl failover (at least <bytes> of WAL are lost, from <TL>:<LSN>)\n  what to do: wait <duration>\n",
		},
		{"progress", "     0 ms  checkpoint\n   101 ms  stop           344 ms\n", "<ms>  checkpoint\n<ms>  stop  <ms>\n"},
		{"addresses", "postgresql://xpd@127.0.0.1:15501/xpd, http://127.0.0.1:18301\n", "postgresql://xpd@<PostgreSQL of n1>/xpd, http://<HTTP of n1>\n"},
		{"nothing", "1 of 3 voters answer, and Raft needs 2; XPD-D003; ANY 1 (n1)\n", "1 of 3 voters answer, and Raft needs 2; XPD-D003; ANY 1 (n1)\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, m.text(tt.in)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
