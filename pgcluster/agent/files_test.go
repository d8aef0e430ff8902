package agent

import (
	"os"
	"path/filepath"
	"testing"
)

// Who owns the folder must not choose what is written through a link of theirs.
func TestOwner_followsNoLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other, path := filepath.Join(dir, "other"), filepath.Join(dir, "conf")
	for name, write := range map[string]func(string, []byte) error{"replace": owner{}.replace, "replaceDurably": owner{}.replaceDurably} {
		if err := os.WriteFile(other, []byte("theirs"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(other, path+".new"); err != nil {
			t.Fatal(err)
		}
		if err := write(path, []byte(name)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := os.ReadFile(other); err != nil || string(got) != "theirs" {
			t.Errorf("%s wrote %q through a link, %v", name, got, err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != name {
			t.Errorf("%s: the file has %q, %v", name, got, err)
		}
	}
}
