package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/client/csvimport"
	"github.com/xpd-platform/xpd/internal/clientflags"
)

// exitRejected is the exit code of an import that left lines out.
const exitRejected = 3

// importCmd holds the commands that load files.
type importCmd struct {
	Assignments importAssignmentsCmd `cmd:"" help:"Load assignments that were made elsewhere."`
	Events      importEventsCmd      `cmd:"" help:"Load events that were recorded elsewhere."`
}

// importFlags are those of every import.
type importFlags struct {
	File      string        `arg:"" help:"CSV file with a header, plain or gzip; - for standard input."`
	UnitType  string        `default:"user" help:"Type of the units in the file."`
	Rejects   string        `type:"path" help:"File for lines that are left out (default: FILE.rejects.csv)."`
	BatchRows int           `default:"5000" help:"Rows sent and stored at once, at most 10000."`
	Restart   bool          `help:"Begin anew instead of where an earlier try stopped."`
	Timeout   time.Duration `default:"2m" help:"Give up when a batch cannot be stored for this long."`
	JSON      bool          `help:"Print JSON for scripts."`

	clientflags.Flags `envprefix:"XPD_"`
}

type importAssignmentsCmd struct {
	importFlags

	Experiment       string    `required:"" help:"Key of the experiment, which must have been started."`
	UnitColumn       string    `required:"" placeholder:"COLUMN" help:"Column with the unit's id."`
	TreatmentColumn  string    `required:"" placeholder:"COLUMN" help:"Column with the treatment's key."`
	AssignedAtColumn string    `xor:"at" placeholder:"COLUMN" help:"Column with the time of assignment, such as 2026-01-31T15:04:05Z."`
	AssignedAt       time.Time `xor:"at" placeholder:"TIME" help:"Time of assignment of all units (default: when the run started)."`
	NoExposure       bool      `help:"The units did not see their treatment yet. Reports leave such units out."`
}

// Run imports the file to its end.
func (c *importAssignmentsCmd) Run(ctx context.Context, s streams) error {
	return c.load(ctx, s, "assignments", func(ctx context.Context, to sender, o csvimport.Options) (csvimport.Result, error) {
		return csvimport.ImportAssignments(ctx, to, o, csvimport.Assignments{
			Experiment: c.Experiment, UnitType: c.UnitType, UnitColumn: c.UnitColumn, TreatmentColumn: c.TreatmentColumn,
			AssignedAtColumn: c.AssignedAtColumn, AssignedAt: c.AssignedAt, NoExposure: c.NoExposure,
		})
	})
}

type importEventsCmd struct {
	importFlags

	UnitColumn       string    `required:"" placeholder:"COLUMN" help:"Column with the unit's id."`
	Event            []string  `placeholder:"TYPE=COLUMN[:bool]" help:"A type of event and the column that holds it: TRUE is an event, FALSE and an empty cell are none, a number is an event with that value. With :bool, 1 and 0 mean TRUE and FALSE. Repeat for more."`
	EventIDColumn    string    `name:"event-id-column" placeholder:"COLUMN" help:"Column with an id of the line that never changes. Without it, lines that say the same are one event."`
	OccurredAtColumn string    `xor:"at" placeholder:"COLUMN" help:"Column with the time of the event, such as 2026-01-31T15:04:05Z."`
	OccurredAt       time.Time `xor:"at" placeholder:"TIME" help:"Time of all events (default: when they are stored)."`
	ItemsTotalColumn string    `placeholder:"COLUMN" help:"Column with the total of a purchase in whole minor units."`
	DiscountsColumn  string    `placeholder:"COLUMN" help:"Column with the discounts of a purchase in whole minor units."`
	CurrencyColumn   string    `xor:"currency" placeholder:"COLUMN" help:"Column with the currency of a purchase."`
	Currency         string    `xor:"currency" help:"Currency of all purchases, such as EUR."`
}

// Run imports the file to its end.
func (c *importEventsCmd) Run(ctx context.Context, s streams) error {
	events := csvimport.Events{
		UnitType: c.UnitType, UnitColumn: c.UnitColumn, IDColumn: c.EventIDColumn,
		OccurredAtColumn: c.OccurredAtColumn, OccurredAt: c.OccurredAt,
		ItemsTotalColumn: c.ItemsTotalColumn, DiscountsColumn: c.DiscountsColumn,
		CurrencyColumn: c.CurrencyColumn, Currency: c.Currency,
	}
	for _, text := range c.Event {
		column, err := csvimport.ParseEventColumn(text)
		if err != nil {
			return fmt.Errorf("--event: %w", err)
		}
		events.Columns = append(events.Columns, column)
	}
	if len(c.Event) == 0 && c.ItemsTotalColumn == "" {
		return errors.New("nothing to import: name columns by --event or --items-total-column")
	}
	return c.load(ctx, s, "events", func(ctx context.Context, to sender, o csvimport.Options) (csvimport.Result, error) {
		return csvimport.ImportEvents(ctx, to, o, events)
	})
}

// load runs an import, shows how it goes and says how it ended.
func (f importFlags) load(
	ctx context.Context, s streams, what string,
	run func(ctx context.Context, to sender, o csvimport.Options) (csvimport.Result, error),
) error {
	way, c, err := openService(f.Flags, s)
	if err != nil {
		return err
	}
	p := newProgress(s.err, what)
	result, err := run(ctx, sender{c, f.Timeout}, csvimport.Options{
		File: f.File, Stdin: s.in, Rejects: f.rejects(), BatchRows: f.BatchRows, Restart: f.Restart, Progress: p.show,
	})
	p.end()
	if err != nil {
		err = way.Explain(err)
		if result.Lines > 0 {
			err = fmt.Errorf("%w\n%s lines are done; the same command carries on with the rest", err, grouped(result.Lines))
		}
		return err
	}
	if err := f.print(s.out, what, result); err != nil {
		return err
	}
	if result.Rejected > 0 {
		return exitError{exitRejected}
	}
	return nil
}

// tokenEnv is where a token may be that is in no file.
const tokenEnv = "XPD_TOKEN"

// openService returns a client that waits for as long as the service takes for what is
// not a matter of milliseconds, and what explains its errors.
func openService(f clientflags.Flags, s streams) (*clientflags.Way, *client.Client, error) {
	way, err := f.Open(tokenEnv, s.err)
	if err != nil {
		return nil, nil, err
	}
	transport := way.Transport()
	transport.ResponseHeaderTimeout = 45 * time.Second // the service gives up after 30 s
	c, err := way.Client(way.Servers, &http.Client{Transport: transport})
	return way, c, way.Explain(err)
}

func (f importFlags) rejects() string {
	switch {
	case f.Rejects != "":
		return f.Rejects
	case f.File == "-":
		return "stdin" + csvimport.RejectsSuffix
	}
	return f.File + csvimport.RejectsSuffix
}

// print sums the import up.
func (f importFlags) print(w io.Writer, what string, r csvimport.Result) error {
	if f.JSON {
		out := struct {
			csvimport.Result

			RejectsFile string `json:"rejects_file,omitempty"`
		}{Result: r}
		if r.Rejected > 0 {
			out.RejectsFile = f.rejects()
		}
		return json.NewEncoder(w).Encode(out)
	}
	_, err := fmt.Fprintf(w, "%s lines: %s %s stored, %s were stored before\n",
		grouped(r.Lines), grouped(r.Inserted), what, grouped(r.Present))
	if err == nil && r.Rejected > 0 {
		_, err = fmt.Fprintf(w, "%s lines were left out: %s says which and why\n", grouped(r.Rejected), f.rejects())
	}
	return err
}

// sender bounds how long the client tries to get one batch stored.
type sender struct {
	c       *client.Client
	timeout time.Duration
}

// ImportAssignments implements csvimport.AssignmentSender.
func (s sender) ImportAssignments(ctx context.Context, batch client.AssignmentImport) (client.ImportResult, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.c.ImportAssignments(ctx, batch)
}

// ImportEvents implements csvimport.EventSender.
func (s sender) ImportEvents(ctx context.Context, batch client.EventImport) (client.ImportResult, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.c.ImportEvents(ctx, batch)
}
