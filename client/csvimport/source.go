package csvimport

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// headBytes of an input identify it, with its size.
const headBytes = 64 << 10

// source is an open CSV input past its header.
type source struct {
	*recordReader

	header columns
	id     inputID
	raw    *countingReader
	close  func() error
}

// inputID tells one input from another. It is zero for a stream.
type inputID struct {
	Size int64  `json:"size"`
	Head string `json:"head"` // SHA-256 of the first headBytes
}

// columns finds the columns of a header.
type columns []string

// find returns the place of the column called name.
func (c columns) find(name string) (int, error) {
	i := slices.Index(c, name)
	switch {
	case i < 0:
		return 0, fmt.Errorf("there is no column %q, but: %s", name, strings.Join(c, ", "))
	case slices.Contains(c[i+1:], name):
		return 0, fmt.Errorf("the column %q occurs twice", name)
	}
	return i, nil
}

// findOptional returns -1 for an empty name.
func (c columns) findOptional(name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	return c.find(name)
}

// open opens the file at path, or stdin for "-". Whether it is compressed is seen
// from how it begins.
func open(path string, stdin io.Reader) (_ *source, err error) {
	s := &source{close: func() error { return nil }}
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		s.close = f.Close
		in = f
		if s.id, err = identify(f); err != nil {
			return nil, errors.Join(fmt.Errorf("read %s: %w", path, err), f.Close())
		}
	}
	s.raw = &countingReader{r: in}
	if err := s.begin(); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", path, err), s.close())
	}
	return s, nil
}

// sameFile reports whether both paths lead to one file that is there.
func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// identify leaves f at its beginning.
func identify(f *os.File) (inputID, error) {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return inputID{}, err
	}
	h := sha256.New()
	if _, err := io.CopyN(h, f, headBytes); err != nil && !errors.Is(err, io.EOF) {
		return inputID{}, err
	}
	_, err = f.Seek(0, io.SeekStart)
	return inputID{Size: info.Size(), Head: hex.EncodeToString(h.Sum(nil))}, err
}

// byteOrderMark is what spreadsheets begin UTF-8 with.
const byteOrderMark = "\ufeff"

// begin reads up to the end of the header.
func (s *source) begin() error {
	in := bufio.NewReader(s.raw)
	var text io.Reader = in
	if magic, err := in.Peek(2); err == nil && bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		zip, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		text = zip
	}
	plain := bufio.NewReader(text)
	if mark, err := plain.Peek(len(byteOrderMark)); err == nil && string(mark) == byteOrderMark {
		_, _ = plain.Discard(len(mark)) // what was peeked at is there
	}
	s.recordReader = newRecordReader(plain)
	header, err := s.next()
	if errors.Is(err, io.EOF) {
		return errors.New("is empty; its first line must name the columns")
	}
	if err != nil {
		return err
	}
	if header.bad != "" {
		return errors.New("the header " + header.bad)
	}
	s.header = header.fields
	return nil
}

// countingReader counts what was read, for progress.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
