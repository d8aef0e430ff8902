package csvimport

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/xpd-platform/xpd/client"
)

// Suffixes that name the files beside an input.
const (
	RejectsSuffix = ".rejects.csv" // by custom: Options say where rejects go
	stateSuffix   = ".xpd-import"
)

// DefaultBatchRows makes batches that take the service about a tenth of a second.
const DefaultBatchRows = 5000

// maxBatchBytes leaves room in a body for what is around the rows.
const maxBatchBytes = client.MaxImportBytes - 1024

// Options say what to read and where to keep notes. File and Rejects are required.
type Options struct {
	File      string // path, or - for Stdin, of which no notes are kept
	Stdin     io.Reader
	Rejects   string         // file for the lines that are left out
	BatchRows int            // 0: DefaultBatchRows
	Restart   bool           // begin anew whatever the notes say
	Progress  func(Progress) // if set, called after each batch
}

func (o *Options) validate() error {
	if o.File == "" || o.Rejects == "" {
		return errors.New("options: File and Rejects are required")
	}
	if o.BatchRows == 0 {
		o.BatchRows = DefaultBatchRows
	}
	if o.BatchRows < 1 || o.BatchRows > client.MaxImportRows {
		return fmt.Errorf("batch rows must be 1 to %d", client.MaxImportRows)
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	return nil
}

// Progress tells after each batch how far an import is. Size is 0 if nobody knows.
type Progress struct {
	Bytes, Size int64 // of the input as it is stored
	Result
}

// Result accounts for the lines below the header. Rows are assignments or events;
// a line may hold several events, or none.
type Result struct {
	Lines    int64 `json:"lines"`
	Rejected int64 `json:"rejected"` // lines that are in the file of rejects
	Inserted int64 `json:"inserted"` // rows
	Present  int64 `json:"present"`  // rows that were stored before
}

// plan is one way to read lines as rows.
type plan[R any] struct {
	name any // identifies the plan, in JSON
	// bind finds the columns, and returns what makes rows of a line's fields.
	bind func(columns) (parser[R], error)
	send func(ctx context.Context, rows []R) (client.ImportResult, error)
}

// parser returns the rows of a line. Its error is the reason to reject the line.
type parser[R any] func(fields []string) ([]R, error)

// importer is an import under way.
type importer[R any] struct {
	o       Options
	plan    plan[R]
	src     *source
	parse   parser[R]
	rejects *rejectsFile
	state   state
	batch   batch[R]
}

// batch is what was read since the last acknowledged one.
type batch[R any] struct {
	rows    []R
	records []record // of each row
	bytes   int      // of the rows' JSON form
	rejects []reject
	lines   int64
	last    int64 // the last line in it
}

// run imports a file to its end. An error leaves notes from which the next run of
// the same import carries on.
func run[R any](ctx context.Context, o Options, p plan[R]) (_ Result, err error) {
	if err := o.validate(); err != nil {
		return Result{}, err
	}
	if sameFile(o.File, o.Rejects) {
		return Result{}, fmt.Errorf("options: the file of rejects would replace the input %s", o.File)
	}
	src, err := open(o.File, o.Stdin)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	im := &importer[R]{o: o, plan: p, src: src}
	if im.parse, err = p.bind(src.header); err != nil {
		return Result{}, fmt.Errorf("columns of %s: %w", o.File, err)
	}
	if err := im.resume(); err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, im.rejects.close()) }()
	if err := im.readAll(ctx); err != nil {
		return im.state.Result, err
	}
	return im.state.Result, im.forget()
}

// resume takes up the notes of an earlier try.
func (im *importer[R]) resume() error {
	name, err := json.Marshal(im.plan.name)
	if err != nil {
		return fmt.Errorf("encode what is imported: %w", err)
	}
	im.state = state{Input: im.src.id, Import: string(name)}
	if im.o.Restart {
		if err := im.forget(); err != nil {
			return err
		}
	}
	if im.keepsNotes() {
		if im.state, err = loadState(im.o.File+stateSuffix, im.state); err != nil {
			return err
		}
	}
	im.rejects, err = openRejects(im.o.Rejects, im.state.RejectsBytes)
	return err
}

// keepsNotes reports whether the input can be told from another one later.
func (im *importer[R]) keepsNotes() bool { return im.src.id != inputID{} }

func (im *importer[R]) forget() error {
	if !im.keepsNotes() {
		return nil
	}
	return forget(im.o.File + stateSuffix)
}

func (im *importer[R]) readAll(ctx context.Context) error {
	for {
		rec, err := im.src.next()
		if errors.Is(err, io.EOF) {
			return im.flush(ctx)
		}
		if err != nil {
			return fmt.Errorf("read %s after line %d: %w", im.o.File, im.batch.last, err)
		}
		if rec.line <= im.state.Line {
			continue // done in an earlier try
		}
		if err := im.add(ctx, rec); err != nil {
			return err
		}
	}
}

// add puts a record into the batch, which it sends first if there is no room.
func (im *importer[R]) add(ctx context.Context, rec record) error {
	rows, size, reason := im.read(rec)
	full := len(im.batch.rows)+len(rows) > client.MaxImportRows || im.batch.bytes+size > maxBatchBytes ||
		len(im.batch.rows) >= im.o.BatchRows || im.batch.lines >= int64(im.o.BatchRows)
	if full {
		if err := im.flush(ctx); err != nil {
			return err
		}
	}
	b := &im.batch
	b.lines++
	b.last = rec.last
	if reason != "" {
		b.rejects = append(b.rejects, reject{rec.line, reason, rec.raw})
		return nil
	}
	rec.fields = nil
	for _, row := range rows {
		b.rows = append(b.rows, row)
		b.records = append(b.records, rec)
	}
	b.bytes += size
	return nil
}

// read returns the rows of a record and their size, or the reason to reject it.
func (im *importer[R]) read(rec record) (rows []R, size int, reason string) {
	if rec.bad != "" {
		return nil, 0, rec.bad
	}
	if got, want := len(rec.fields), len(im.src.header); got != want {
		return nil, 0, fmt.Sprintf("has %d fields, the header has %d", got, want)
	}
	rows, err := im.parse(rec.fields)
	if err != nil {
		return nil, 0, err.Error()
	}
	for _, row := range rows {
		text, err := json.Marshal(row)
		if err != nil {
			return nil, 0, "cannot be sent: " + err.Error()
		}
		size += len(text) + 1
	}
	return rows, size, ""
}

// flush sends the batch, and then notes that it is done.
func (im *importer[R]) flush(ctx context.Context) error {
	b := &im.batch
	if b.lines == 0 {
		return nil
	}
	next := im.state
	if len(b.rows) > 0 {
		result, err := im.plan.send(ctx, b.rows)
		if err != nil {
			return err
		}
		next.Inserted += int64(result.Inserted)
		next.Present += int64(result.Present)
		for _, r := range result.Rejected {
			if r.Row < 0 || r.Row >= len(b.rows) {
				return fmt.Errorf("the service rejected row %d of %d", r.Row, len(b.rows))
			}
			rec := b.records[r.Row]
			b.rejects = append(b.rejects, reject{rec.line, r.Reason, rec.raw})
		}
	}
	rejects := onePerLine(b.rejects)
	if err := im.rejects.add(rejects); err != nil {
		return fmt.Errorf("write rejects: %w", err)
	}
	next.Lines += b.lines
	next.Rejected += int64(len(rejects))
	next.Line = b.last
	next.RejectsBytes = im.rejects.size
	im.state = next
	if im.keepsNotes() {
		if err := next.save(im.o.File + stateSuffix); err != nil {
			return fmt.Errorf("note progress: %w", err)
		}
	}
	im.o.Progress(Progress{Bytes: im.src.raw.n, Size: im.src.id.Size, Result: next.Result})
	clear(b.records) // lets go of the lines
	*b = batch[R]{rows: b.rows[:0], records: b.records[:0], rejects: b.rejects[:0]}
	return nil
}

// onePerLine sorts rejects and keeps the first of each line, which may have lost
// several events.
func onePerLine(rejects []reject) []reject {
	slices.SortStableFunc(rejects, func(a, b reject) int { return cmp.Compare(a.line, b.line) })
	return slices.CompactFunc(rejects, func(a, b reject) bool { return a.line == b.line })
}
