package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// newFileMode lets the daemon read a file that root has made: hashes are no secret.
const newFileMode = 0o644

// Bounds of the wait for somebody else who changes the file.
const (
	lockWait = 5 * time.Second
	lockPoll = 20 * time.Millisecond
)

// Errors that callers may match with errors.Is.
var (
	ErrExists  = errors.New("there is a token of that name already")
	ErrUnknown = errors.New("there is no token of that name")
)

// Add appends e to the token file at path, which it makes if there is none. It
// returns ErrExists if the name is taken. The file is replaced at once: who reads it
// sees it without e or with it.
func Add(ctx context.Context, path string, e Entry) error {
	if _, ok, err := parseLine(e.String()); err != nil || !ok {
		return fmt.Errorf("token %q: %w", e.Name, err)
	}
	return edit(ctx, path, func(text []byte, entries []Entry) ([]byte, error) {
		for _, old := range entries {
			if old.Name == e.Name {
				return nil, fmt.Errorf("%s: %w: revoke it first, or take another name", e.Name, ErrExists)
			}
		}
		if len(text) > 0 && !bytes.HasSuffix(text, []byte("\n")) {
			text = append(text, '\n')
		}
		return append(text, e.String()+"\n"...), nil
	})
}

// Revoke takes the token called name out of the file at path and returns what it was,
// or ErrUnknown. Daemons follow within a second or two.
func Revoke(ctx context.Context, path, name string) (Entry, error) {
	var gone Entry
	err := edit(ctx, path, func(text []byte, _ []Entry) ([]byte, error) {
		var left []byte
		for line := range bytes.Lines(text) {
			if e, ok, _ := parseLine(string(line)); ok && e.Name == name {
				gone = e
				continue
			}
			left = append(left, line...)
		}
		if gone.Name == "" {
			return nil, fmt.Errorf("%s: %w", name, ErrUnknown)
		}
		return left, nil
	})
	return gone, err
}

// edit replaces the text of the token file at path by what change makes of it, one
// process at a time.
func edit(ctx context.Context, path string, change func(text []byte, entries []Entry) ([]byte, error)) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // a link stays one
	}
	unlock, err := lockFolder(ctx, filepath.Dir(path))
	if err != nil {
		return err
	}
	defer unlock()
	var text []byte
	f, info, err := openFile(path)
	switch {
	case err == nil:
		text, err = io.ReadAll(io.LimitReader(f, maxFile+1))
		err = errors.Join(err, f.Close())
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err != nil {
		return err
	}
	entries, err := Parse(text)
	if err != nil {
		return fmt.Errorf("token file %s: %w", path, err)
	}
	text, err = change(text, entries)
	if err != nil {
		return err
	}
	if _, err := Parse(text); err != nil {
		return fmt.Errorf("token file %s: %w", path, err)
	}
	return replace(path, text, info)
}

// replace puts text in the place of the file at path, whose owner and mode stay.
func replace(path string, text []byte, old fs.FileInfo) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("token file: %w", err)
	}
	defer os.Remove(f.Name()) // renamed by then, or of no use
	mode := fs.FileMode(newFileMode)
	if old != nil {
		mode = old.Mode().Perm()
		if owner, ok := old.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
			err = f.Chown(int(owner.Uid), int(owner.Gid))
		}
	}
	if err == nil {
		_, err = f.Write(text)
	}
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("token file: %w", err)
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// lockFolder keeps other edits of files in dir out until unlock is called. The lock
// is on the folder, as the file itself is replaced.
func lockFolder(ctx context.Context, dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("folder of the token file: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = d.Close() }, nil // which ends the lock
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), d.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("somebody else changes files in %s: try again when it is done: %w", dir, ctx.Err()), d.Close())
		case <-tick.C:
		}
	}
}
