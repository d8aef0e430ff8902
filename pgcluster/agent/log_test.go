package agent

import (
	"os"
	"path/filepath"
	"testing"
)

// A server keeps its log open while it is set aside.
func TestTrimLog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "postgres.log")
	if err := trimLog(owner{}, path, 8); err != nil {
		t.Errorf("without a log: %v", err)
	}
	server, err := openLog(owner{}, path)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for _, step := range []struct{ writes, log, aside string }{
		{"12345678", "12345678", ""},
		{"9", "", "123456789"},
		{"new", "new", "123456789"},
		{" and newer", "", "new and newer"},
	} {
		if _, err := server.WriteString(step.writes); err != nil {
			t.Fatal(err)
		}
		if err := trimLog(owner{}, path, 8); err != nil {
			t.Fatal(err)
		}
		log, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		aside, err := os.ReadFile(path + ".1")
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if string(log) != step.log || string(aside) != step.aside {
			t.Errorf("after %q: log %q, set aside %q, want %q and %q", step.writes, log, aside, step.log, step.aside)
		}
	}
}

// What is said after the log was set aside is found.
func TestLogMark_afterTrim(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "postgres.log")
	server, err := openLog(owner{}, path)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, err := server.WriteString("has already been removed\n"); err != nil {
		t.Fatal(err)
	}
	a := &Agent{p: paths{log: filepath.Dir(path)}}
	mark := a.markLog()
	if err := trimLog(owner{}, path, 8); err != nil {
		t.Fatal(err)
	}
	if _, err := server.WriteString("requested timeline\n"); err != nil {
		t.Fatal(err)
	}
	if !mark.says("requested timeline") || mark.says("has already been removed") {
		t.Errorf("since the mark: %q", mark.read())
	}
}
