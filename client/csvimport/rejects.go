package csvimport

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
)

// reject is a line that was left out.
type reject struct {
	line   int64
	reason string
	raw    string
}

// rejectsFile is a CSV file of the lines that were left out. It exists only if
// there are some.
type rejectsFile struct {
	path string
	size int64
	file *os.File // nil until the first reject
}

// openRejects keeps the first size bytes of what an earlier try wrote, since what
// follows belongs to a batch that will be sent again.
func openRejects(path string, size int64) (*rejectsFile, error) {
	r := &rejectsFile{path: path, size: size}
	if size > 0 {
		return r, r.open()
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return r, nil
}

func (r *rejectsFile) open() error {
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	r.file = f
	if err := f.Truncate(r.size); err != nil {
		return fmt.Errorf("cut %s to what is done: %w", r.path, err)
	}
	return nil
}

// add appends rejects.
func (r *rejectsFile) add(rejects []reject) error {
	if len(rejects) == 0 {
		return nil
	}
	var text bytes.Buffer
	w := csv.NewWriter(&text)
	if r.file == nil {
		if err := r.open(); err != nil {
			return err
		}
		_ = w.Write([]string{"line", "reason", "raw"}) // to memory: cannot fail
	}
	for _, j := range rejects {
		_ = w.Write([]string{strconv.FormatInt(j.line, 10), j.reason, j.raw})
	}
	w.Flush()
	n, err := r.file.WriteAt(text.Bytes(), r.size)
	r.size += int64(n)
	return err
}

func (r *rejectsFile) close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}
