package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/alecthomas/kong"

	"github.com/xpd-platform/xpd/internal/clientflags"
)

// The help of every command fits a terminal, and says what each flag is for.
func TestHelp(t *testing.T) {
	t.Setenv("COLUMNS", "80")
	var c cli
	var out strings.Builder
	exited := false
	parser, err := kong.New(&c, kong.Name("pgctl"), kong.Writers(&out, &out), kong.Vars(clientflags.Vars(tokenEnv)),
		kong.Exit(func(int) { exited = true }))
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range parser.Model.Leaves(true) {
		out.Reset()
		exited = false
		_, _ = parser.Parse(append(strings.Fields(command.Path()), "--help")) // it would have ended the program
		if !exited || !strings.HasPrefix(out.String(), "Usage: pgctl "+command.Name) && !strings.HasPrefix(out.String(), "Usage: pgctl "+command.Parent.Name) {
			t.Errorf("pgctl %s --help shows %s", command.Path(), out.String())
		}
		for line := range strings.Lines(out.String()) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > width {
				t.Errorf("pgctl %s --help: %d columns, at most %d: %s", command.Path(), n, width, line)
			}
		}
		for _, f := range command.Flags {
			if f.Help == "" {
				t.Errorf("pgctl %s: --%s has no help", command.Path(), f.Name)
			}
		}
		if command.Help == "" {
			t.Errorf("pgctl %s has no help", command.Path())
		}
	}
}
