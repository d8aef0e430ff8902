package access

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	reloadEvery = time.Second
	// settled is the age from which a file with an unchanged time of change is
	// taken to be unchanged: the clock of a filesystem is coarse.
	settled = 3 * time.Second
)

// digest is a SHA-256 in words, which compare quicker than bytes.
type digest [sha256.Size / 8]uint64

func digestOf(token string) digest { return words(sha256.Sum256([]byte(token))) }

func words(sum [sha256.Size]byte) (d digest) {
	for i := range d {
		d[i] = binary.LittleEndian.Uint64(sum[8*i:])
	}
	return d
}

// same returns 1 if d and o are equal and 0 if not, without a branch on either.
func (d *digest) same(o *digest) int {
	diff := (d[0] ^ o[0]) | (d[1] ^ o[1]) | (d[2] ^ o[2]) | (d[3] ^ o[3])
	return int(^(diff | -diff) >> 63) // the sign bit alone
}

// set is the content of a token file.
type set struct {
	entries []Entry
	digests []digest // of entries, in their order
}

// find returns the entry of a token. It compares with all of them, whatever the
// outcome is.
func (s *set) find(d digest) (Entry, bool) {
	at := 0
	for i := range s.digests {
		at |= (i + 1) & -s.digests[i].same(&d) // hashes are unique: one at most
	}
	if at == 0 {
		return Entry{}, false
	}
	return s.entries[at-1], true
}

// Tokens is a token file that is followed. It is safe for concurrent use.
type Tokens struct {
	path   string
	logger *slog.Logger
	cur    atomic.Pointer[set]
	stale  atomic.Bool // the file cannot be used as it is now

	seen   fs.FileInfo // only Run looks at the rest
	readAt time.Time
	told   string // what is wrong with the file, as logged
}

// Open reads the token file at path. The file must be one that only its owner can
// write to, and its owner root or the user of this process.
func Open(path string, logger *slog.Logger) (*Tokens, error) {
	t := &Tokens{path: path, logger: logger}
	if _, err := t.load(time.Now()); err != nil {
		return nil, err
	}
	return t, nil
}

// Run follows changes of the file until ctx ends. Content that Open would refuse
// changes nothing: the tokens of before go on to count.
func (t *Tokens) Run(ctx context.Context) error {
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			t.reload(ctx)
		}
	}
}

// reload is one look of Run at the file.
func (t *Tokens) reload(ctx context.Context) {
	before := len(t.cur.Load().entries)
	changed, err := t.load(time.Now())
	t.stale.Store(err != nil)
	switch {
	case err != nil && err.Error() != t.told:
		t.told = err.Error()
		t.logger.WarnContext(ctx, "token file not taken, the tokens of before go on to count: correct the file", "error", err)
	case err == nil && (changed || t.told != ""):
		t.told = ""
		t.logger.InfoContext(ctx, "token file read again", "file", t.path, "tokens", len(t.cur.Load().entries), "before", before)
	}
}

// load reads the file unless it is as it was read before.
func (t *Tokens) load(now time.Time) (changed bool, err error) {
	f, info, err := openFile(t.path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if t.seen != nil && unchanged(t.seen, info) && t.readAt.Sub(info.ModTime()) > settled {
		return false, nil
	}
	s, err := read(f)
	if err != nil {
		return false, fmt.Errorf("token file %s: %w", t.path, err)
	}
	changed = t.seen == nil || !unchanged(t.seen, info)
	// The file as it was before it was read: what is written later is seen as a change.
	t.seen, t.readAt = info, now
	t.cur.Store(s)
	return changed, nil
}

func unchanged(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// ReadFile returns the entries of the token file at path.
func ReadFile(path string) ([]Entry, error) {
	f, _, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s, err := read(f)
	if err != nil {
		return nil, fmt.Errorf("token file %s: %w", path, err)
	}
	return s.entries, nil
}

func read(r io.Reader) (*set, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, err
	}
	entries, err := Parse(data)
	if err != nil {
		return nil, err
	}
	s := &set{entries: entries, digests: make([]digest, len(entries))}
	for i, e := range entries {
		var sum [sha256.Size]byte
		if _, err := hex.Decode(sum[:], []byte(strings.TrimPrefix(e.Hash, hashPrefix))); err != nil {
			return nil, fmt.Errorf("hash of %s: %w", e.Name, err)
		}
		s.digests[i] = words(sum)
	}
	return s, nil
}

// openFile opens a file that nobody else can have changed.
func openFile(path string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe does not make it wait
	if err != nil {
		return nil, nil, fmt.Errorf("token file: %w", err)
	}
	info, err := f.Stat()
	if err == nil {
		err = checkFile(info)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("token file %s: %w", path, err), f.Close())
	}
	return f, info, nil
}

func checkFile(info fs.FileInfo) error {
	owner, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return errors.New("not a regular file")
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("others than its owner can write to it (mode %04o), and so give themselves any role: run chmod go-w on it", info.Mode().Perm())
	case ok && owner.Uid != 0 && int(owner.Uid) != os.Geteuid():
		return fmt.Errorf("it belongs to user %d, who could change it: run chown root, or chown to the user that xpd runs as", owner.Uid)
	}
	return nil
}
