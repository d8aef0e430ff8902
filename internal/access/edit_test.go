package access_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/internal/access"
)

type token struct{ text, hash string }

func newToken(t *testing.T) token {
	t.Helper()
	text, hash, err := access.NewToken()
	if err != nil {
		t.Fatal(err)
	}
	return token{text, hash}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func replaceFile(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func replaceByPipe(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return syscall.Mkfifo(path, 0o600)
}

func entry(name, hash string) access.Entry {
	return access.Entry{Name: name, Roles: []access.Role{access.RoleDBA}, Hash: hash}
}

func TestEdit(t *testing.T) {
	t.Parallel()
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "tokens")
	if err := access.Add(ctx, path, entry("eva", hashA)); err != nil {
		t.Fatalf("Add() to a file that does not exist = %v", err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	write(t, path, "# people\neva dba "+hashA+" # boss") // by hand, and wrongly
	if err := access.Add(ctx, path, entry("ada", hashB)); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("Add() to a broken file = %v, want its line", err)
	}
	write(t, path, "# people\neva dba "+hashA) // without an end of line
	e := entry("ada", hashB)
	e.Expires = time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
	if err := access.Add(ctx, path, e); err != nil {
		t.Fatalf("Add() = %v", err)
	}
	want := "# people\neva dba " + hashA + "\nada dba " + hashB + " expires=2027-01-31T12:00:00Z\n"
	expect(t, path, want)
	for name, bad := range map[string]access.Entry{
		"a name that is taken": entry("eva", "sha256:"+fmt.Sprintf("%064x", 3)),
		"a hash that is taken": entry("ida", hashB),
		"no role":              {Name: "ida", Hash: "sha256:" + fmt.Sprintf("%064x", 3)},
		"a name of two lines":  entry("ida\nida", "sha256:"+fmt.Sprintf("%064x", 3)),
		"a comment as a name":  entry("#ida", "sha256:"+fmt.Sprintf("%064x", 3)),
	} {
		err := access.Add(ctx, path, bad)
		if err == nil || errors.Is(err, access.ErrExists) != (bad.Name == "eva") {
			t.Errorf("Add() with %s = %v", name, err)
		}
	}
	expect(t, path, want)

	if _, err := access.Revoke(ctx, path, "nobody"); !errors.Is(err, access.ErrUnknown) {
		t.Errorf("Revoke() of nobody = %v, want ErrUnknown", err)
	}
	if gone, err := access.Revoke(ctx, path, "eva"); err != nil || gone.String() != "eva dba "+hashA {
		t.Fatalf("Revoke() = %v, %v", gone, err)
	}
	expect(t, path, "# people\nada dba "+hashB+" expires=2027-01-31T12:00:00Z\n")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode = %v, %v, want it to stay 0640", info.Mode(), err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v, %v are left behind", left, err)
	}
}

func TestEdit_keepsLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	write(t, target, "")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := access.Add(t.Context(), link, entry("eva", hashA)); err != nil {
		t.Fatal(err)
	}
	expect(t, target, "eva dba "+hashA+"\n")
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link became %v, %v", info.Mode(), err)
	}
}

// TestAdd_atTheSameTime has several add at once: none may undo what another did.
func TestAdd_atTheSameTime(t *testing.T) {
	t.Parallel()
	const n = 20
	path := filepath.Join(t.TempDir(), "tokens")
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := access.Add(t.Context(), path, entry(fmt.Sprintf("t%d", i), fmt.Sprintf("sha256:%064x", i))); err != nil {
				t.Errorf("Add() = %v", err)
			}
		})
	}
	wg.Wait()
	if got, err := access.ReadFile(path); err != nil || len(got) != n {
		t.Errorf("%d tokens, %v, want %d", len(got), err, n)
	}
}

func TestOpen_refuses(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	tests := []struct {
		name   string
		change func(path string) error
		want   string
	}{
		{"no file", os.Remove, "no such file"},
		{"a folder", func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, "not a regular file"},
		{"a named pipe", replaceByPipe, "not a regular file"},
		{"one that its group can write to", func(path string) error { return os.Chmod(path, 0o660) }, "(mode 0660), and so give themselves any role: run chmod go-w"},
		{"one that all can write to", func(path string) error { return os.Chmod(path, 0o602) }, "run chmod go-w"},
		{"one of another user", func(path string) error { return os.Chown(path, 12345, -1) }, "it belongs to user 12345"},
		{"a broken one", func(path string) error { return os.WriteFile(path, []byte("\nx"), 0o600) }, "line 2: want NAME"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "tokens")
			write(t, path, "eva dba "+hashA)
			if _, err := access.Open(path, slog.New(slog.DiscardHandler)); err != nil {
				t.Fatalf("Open() before = %v", err)
			}
			if err := tt.change(path); err != nil {
				t.Fatal(err)
			}
			_, err := access.Open(path, slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("Open() = %v, want %q and the path", err, tt.want)
			}
			if err := access.Add(t.Context(), path, entry("ada", hashB)); err == nil && tt.name != "no file" {
				t.Errorf("Add() = nil, want what Open() says")
			}
		})
	}
}

func expect(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s is %q, %v, want %q", filepath.Base(path), got, err, want)
	}
}
