package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// asProgram makes the test's own program run as pgctl.
const asProgram = "PGCTL_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	m.Run()
}

// install makes a pgctl that shells find, and returns what they need in the environment.
func install(t *testing.T, server string) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := "#!/bin/sh\n" + asProgram + "=1 exec '" + self + "' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "pgctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "PGCTL_SERVER="+server, "TERM=xterm", "HOME="+dir)
}

func TestComplete(t *testing.T) {
	t.Parallel()
	url := serve(t, healthy(t))
	for _, tt := range []struct {
		typed string
		want  []string // all that is offered
		has   []string // some of it
	}{
		{typed: "sw", want: []string{"switchover"}},
		{typed: "__", want: nil},
		{typed: "sta", want: []string{"status"}},
		{typed: "node re", want: []string{"remove", "replace"}},
		{typed: "switchover --to ", want: []string{"n1", "n2", "n3"}},
		{typed: "switchover --to=n", want: []string{"--to=n1", "--to=n2", "--to=n3"}},
		{typed: "switchover --re", want: []string{"--reason"}},
		{typed: "switchover -", has: []string{"--to", "--yes", "--json", "--server"}},
		{typed: "switchover -y --to n", want: []string{"n1", "n2", "n3"}},
		{typed: "restart n", want: []string{"n1", "n2", "n3"}},
		{typed: "restart n2 ", want: nil},
		{typed: "fence n", want: []string{"n1", "n2", "n3"}},
		{typed: "reclone n2 --d", want: []string{"--discard", "--dry-run"}},
		{typed: "settings diff n1 ", want: []string{"n1", "n2", "n3"}},
		{typed: "node replace n1 n", want: nil},
		{typed: "node add ", want: nil},
		{typed: "node set n1 zone=a no", want: []string{"nofailover", "nofailover=false", "nosync", "nosync=false"}},
		{typed: "plan s", want: []string{"switchover"}},
		{typed: "plan failover n3", want: []string{"n3"}},
		{typed: "settings set --mode ", want: []string{"protect", "available"}},
		{typed: "settings ", has: []string{"show", "set"}},
		{typed: "status --wat", want: []string{"--watch"}},
		{typed: "dsn --format j", want: []string{"jdbc"}},
		{typed: "--json node remove ", want: []string{"n1", "n2", "n3"}},
		{typed: "nonsense ", want: nil},
		{typed: "switchover --nonsense=", want: nil},
		{typed: "", has: []string{"status", "history", "completion"}},
	} {
		t.Run(tt.typed, func(t *testing.T) {
			t.Parallel()
			got := pgctl(t.Context(), url, nil, append([]string{"__complete", "--", "--server", url}, strings.Split(tt.typed, " ")...)...)
			lines := strings.Split(strings.TrimSpace(got.out), "\n")
			if got.code != exitOK || lines[0] != "words" {
				t.Fatalf("exit code %d, stdout %s, stderr %s", got.code, got.out, got.err)
			}
			var words []string
			for _, l := range lines[1:] {
				word, _, _ := strings.Cut(l, "\t")
				words = append(words, word)
			}
			if tt.has == nil && !slices.Equal(words, tt.want) {
				t.Errorf("%q offers %q, want %q", tt.typed, words, tt.want)
			}
			for _, want := range tt.has {
				if !slices.Contains(words, want) {
					t.Errorf("%q offers %q, want %s too", tt.typed, words, want)
				}
			}
		})
	}
}

func TestComplete_files(t *testing.T) {
	t.Parallel()
	for _, typed := range [][]string{{"dsn", "--secret-file", ""}, {"dsn", "--secret-file=/et"}} {
		got := pgctl(t.Context(), "127.0.0.1:1", nil, append([]string{"__complete", "--"}, typed...)...)
		if got.out != "files\n" || got.code != exitOK {
			t.Errorf("%q: %q, exit code %d, want files", typed, got.out, got.code)
		}
	}
}

// Nobody answers: no names, and no noise in the middle of somebody's typing.
func TestComplete_nobodyAnswers(t *testing.T) {
	t.Parallel()
	got := pgctl(t.Context(), "127.0.0.1:1", nil, "__complete", "--", "--server", "127.0.0.1:1", "restart", "")
	if got.out != "words\n" || got.err != "" || got.code != exitOK {
		t.Errorf("stdout %q, stderr %q, exit code %d", got.out, got.err, got.code)
	}
}

// bash sources the script and completes by it, as it does for somebody who types.
func TestCompletion_bash(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash here")
	}
	p := newPTY(t, 80, 24)
	cmd := exec.CommandContext(t.Context(), bash, "--norc", "--noprofile", "-i")
	cmd.Env = append(install(t, serve(t, healthy(t))), "PS1=ready> ")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.slave, p.slave, p.slave
	cmd.SysProcAttr = ownTerminal()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.await("ready> ")
	p.press("source <(pgctl completion bash); echo sour'ced'\n")
	p.await("sourced\r\n")
	for _, tt := range []struct{ keys, want string }{
		{"pgctl swi\t", "pgctl switchover "},
		{"--to n\x1b*", "--to n1 n2 n3 "}, // all that is offered
		{"\x15pgctl settings set --mode=a\t", "--mode=available "},
		{"\x15pgctl node set n2 zo\t", "node set n2 zone="},
	} {
		p.press(tt.keys)
		p.await(tt.want)
	}
	p.press("\x15exit\n")
	if err := cmd.Wait(); err != nil {
		t.Errorf("bash: %v", err)
	}
}

// The other shells source theirs, where there are any.
func TestCompletion_others(t *testing.T) {
	t.Parallel()
	for shell, try := range map[string]string{
		"zsh":  "autoload -U compinit && compinit -u -D && source <(pgctl completion zsh) && (( $+functions[_pgctl] )) && [[ $_comps[pgctl] == _pgctl ]]",
		"fish": "pgctl completion fish | source; and complete -C 'pgctl swi' | string match -q 'switchover*'",
	} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skipf("no %s here", shell)
			}
			cmd := exec.CommandContext(t.Context(), path, "-c", try)
			cmd.Env = install(t, serve(t, healthy(t)))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", shell, err, out)
			}
		})
	}
}
