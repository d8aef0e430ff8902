package csvimport

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxRecord bounds a record, which may span lines, in bytes.
const maxRecord = 64 << 10

const badQuote = "has a quote that is open or misplaced"

// record is one line of a CSV file, or more if a quoted field spans them.
type record struct {
	line   int64 // where it begins, from 1
	last   int64 // where it ends
	raw    string
	fields []string
	bad    string // why it could not be read; then fields is empty
}

// recordReader splits a CSV file into records. Unlike encoding/csv it bounds them:
// a quote that is never closed spoils its own line and not the rest of the file.
type recordReader struct {
	in    *bufio.Reader
	ahead []physicalLine // read while looking for a closing quote
	line  int64
}

type physicalLine struct {
	text    string
	tooLong bool // text is only its beginning
}

func newRecordReader(r io.Reader) *recordReader {
	return &recordReader{in: bufio.NewReaderSize(r, maxRecord)}
}

// next returns io.EOF after the last record. Empty lines are skipped.
func (r *recordReader) next() (record, error) {
	for {
		first, err := r.take()
		if err != nil {
			return record{}, err
		}
		if first.text == "" {
			continue
		}
		rec := record{line: r.line, last: r.line, raw: first.text}
		switch {
		case first.tooLong:
			rec.bad = fmt.Sprintf("is longer than %d bytes", maxRecord)
		case !strings.Contains(first.text, `"`):
			rec.fields = strings.Split(first.text, ",")
		default:
			if err := r.quoted(&rec); err != nil {
				return record{}, err
			}
		}
		return rec, nil
	}
}

// quoted reads a record with quotes, which goes on in the next lines as long as a
// quote is open. If no end makes it well formed, its first line is bad by itself.
func (r *recordReader) quoted(rec *record) error {
	text, lines := []byte(rec.raw), 0
	for open := quotes(rec.raw); open%2 == 1; {
		more, err := r.peek(lines)
		if errors.Is(err, io.EOF) {
			more, err = physicalLine{tooLong: true}, nil // as good as one that has no room
		}
		if err != nil {
			return err
		}
		if more.tooLong || len(text)+1+len(more.text) > maxRecord {
			rec.bad = badQuote
			return nil
		}
		text = append(append(text, '\n'), more.text...)
		open += quotes(more.text)
		lines++
	}
	fields, ok := parseQuoted(string(text))
	if !ok {
		rec.bad = badQuote
		return nil
	}
	rec.raw, rec.fields = string(text), fields
	r.ahead = r.ahead[lines:]
	r.line += int64(lines)
	rec.last = r.line
	return nil
}

func quotes(s string) int { return strings.Count(s, `"`) }

// parseQuoted returns false if text is not exactly one record.
func parseQuoted(text string) ([]string, bool) {
	c := csv.NewReader(strings.NewReader(text))
	c.FieldsPerRecord = -1
	fields, err := c.Read()
	if err != nil {
		return nil, false
	}
	_, err = c.Read()
	return fields, errors.Is(err, io.EOF)
}

// take returns the next line and counts it.
func (r *recordReader) take() (physicalLine, error) {
	l, err := r.peek(0)
	if err != nil {
		return l, err
	}
	r.ahead = r.ahead[1:]
	r.line++
	return l, nil
}

// peek returns the line that comes i lines after the next one.
func (r *recordReader) peek(i int) (physicalLine, error) {
	for len(r.ahead) <= i {
		l, err := r.read()
		if err != nil {
			return l, err
		}
		r.ahead = append(r.ahead, l)
	}
	return r.ahead[i], nil
}

// read returns the next line of the input without its end. Of one that is too
// long it keeps the beginning.
func (r *recordReader) read() (physicalLine, error) {
	text, err := r.in.ReadSlice('\n')
	l := physicalLine{text: string(text)}
	for errors.Is(err, bufio.ErrBufferFull) {
		l.tooLong = true
		_, err = r.in.ReadSlice('\n')
	}
	if errors.Is(err, io.EOF) && len(l.text) > 0 {
		err = nil
	}
	if err != nil {
		return physicalLine{}, err
	}
	l.text = strings.TrimSuffix(strings.TrimSuffix(l.text, "\n"), "\r")
	return l, nil
}
