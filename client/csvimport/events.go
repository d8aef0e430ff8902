package csvimport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/experiment"
)

// Events says how lines are read as events. Each of Columns, and the money columns
// together, may give one event for a line.
type Events struct {
	UnitType   string
	UnitColumn string
	IDColumn   string `json:",omitempty"` // the source's own id of a line

	OccurredAtColumn string    `json:",omitempty"`
	OccurredAt       time.Time `json:",omitzero"` // of all lines; zero, without a column too: when it is stored

	Columns []EventColumn `json:",omitempty"`

	// A purchase, if ItemsTotalColumn is named and its cell is not empty. Amounts
	// are whole minor units.
	ItemsTotalColumn string `json:",omitempty"`
	DiscountsColumn  string `json:",omitempty"`
	CurrencyColumn   string `json:",omitempty"`
	Currency         string `json:",omitempty"` // of all lines
}

// EventColumn makes events of one type from a column. TRUE is an event and FALSE
// is none, in any case of letters; a number is an event with that value; an empty
// cell is none. If Bool, 1 and 0 mean TRUE and FALSE.
type EventColumn struct {
	Type   string
	Column string
	Bool   bool `json:",omitempty"`
}

// ParseEventColumn reads TYPE=COLUMN or TYPE=COLUMN:bool.
func ParseEventColumn(s string) (EventColumn, error) {
	typ, column, ok := strings.Cut(s, "=")
	if !ok || typ == "" || column == "" {
		return EventColumn{}, fmt.Errorf("%q is not TYPE=COLUMN", s)
	}
	column, isBool := strings.CutSuffix(column, ":bool")
	return EventColumn{Type: typ, Column: column, Bool: isBool}, nil
}

// EventSender stores a batch. *client.Client is one.
type EventSender interface {
	ImportEvents(ctx context.Context, batch client.EventImport) (client.ImportResult, error)
}

// ImportEvents imports the events in a file.
func ImportEvents(ctx context.Context, to EventSender, o Options, e Events) (Result, error) {
	if len(e.Columns) == 0 && e.ItemsTotalColumn == "" {
		return Result{}, errors.New("no column is named that holds events")
	}
	return run(ctx, o, plan[client.ImportedEvent]{
		name: e,
		bind: e.bind,
		send: func(ctx context.Context, rows []client.ImportedEvent) (client.ImportResult, error) {
			return to.ImportEvents(ctx, client.EventImport{UnitType: e.UnitType, Rows: rows})
		},
	})
}

// eventParser knows the places of the columns; -1 is none.
type eventParser struct {
	Events

	unit, id, at               int
	columns                    []int
	items, discounts, currency int
}

func (e Events) bind(header columns) (parser[client.ImportedEvent], error) {
	p := eventParser{Events: e, columns: make([]int, len(e.Columns))}
	var errs []error
	find := func(name string) int {
		i, err := header.findOptional(name)
		errs = append(errs, err)
		return i
	}
	var err error
	p.unit, err = header.find(e.UnitColumn)
	errs = append(errs, err)
	p.id, p.at = find(e.IDColumn), find(e.OccurredAtColumn)
	p.items, p.discounts, p.currency = find(e.ItemsTotalColumn), find(e.DiscountsColumn), find(e.CurrencyColumn)
	for i, c := range e.Columns {
		p.columns[i] = find(c.Column)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return p.parse, nil
}

func (p *eventParser) parse(fields []string) ([]client.ImportedEvent, error) {
	if err := checkUnit(p.UnitType, fields[p.unit]); err != nil {
		return nil, err
	}
	base := client.ImportedEvent{Unit: fields[p.unit], OccurredAt: p.OccurredAt}
	if p.at >= 0 {
		var err error
		if base.OccurredAt, err = parseTime(p.OccurredAtColumn, fields[p.at]); err != nil {
			return nil, err
		}
	}
	sourceID := ""
	if p.id >= 0 {
		if sourceID = fields[p.id]; sourceID == "" {
			return nil, errors.New(p.IDColumn + " is empty")
		}
	}
	var events []client.ImportedEvent
	for i, c := range p.Columns {
		value, happened, err := c.parse(fields[p.columns[i]])
		if err != nil {
			return nil, err
		}
		if happened {
			e := base
			e.Type, e.Value = c.Type, value
			events = append(events, e)
		}
	}
	if p.items >= 0 && fields[p.items] != "" {
		e, err := p.purchase(base, fields)
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	for i := range events {
		events[i].ID = p.eventID(sourceID, events[i])
	}
	return events, nil
}

// parse returns whether a cell stands for an event, and its value.
func (c EventColumn) parse(cell string) (value *float64, happened bool, err error) {
	switch {
	case cell == "", strings.EqualFold(cell, "false"), c.Bool && cell == "0":
		return nil, false, nil
	case strings.EqualFold(cell, "true"), c.Bool && cell == "1":
		return nil, true, nil
	case c.Bool:
		return nil, false, fmt.Errorf("%s must be TRUE or FALSE, 1 or 0", c.Column)
	}
	v, err := strconv.ParseFloat(cell, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return nil, false, fmt.Errorf("%s must be a number, TRUE or FALSE", c.Column)
	}
	return &v, true, nil
}

func (p *eventParser) purchase(e client.ImportedEvent, fields []string) (client.ImportedEvent, error) {
	e.Type, e.Currency = experiment.EventPurchase, p.Currency
	if p.currency >= 0 {
		e.Currency = fields[p.currency]
	}
	var err error
	if e.ItemsTotal, err = parseMoney(p.ItemsTotalColumn, fields[p.items]); err != nil {
		return e, err
	}
	if p.discounts >= 0 && fields[p.discounts] != "" {
		e.Discounts, err = parseMoney(p.DiscountsColumn, fields[p.discounts])
	}
	return e, err
}

func parseMoney(column, cell string) (*int64, error) {
	v, err := strconv.ParseInt(cell, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%s must be a whole number of minor units, such as cents", column)
	}
	return &v, nil
}

// eventNamespace keeps the ids of imported events apart from other version 5
// UUIDs. Changing it would import everything a second time.
const eventNamespace = "6f0e0d5a-9d0b-4c39-8c7e-0f6f3a7b1c55"

// eventID returns the same id whenever the line is read again; see the package
// comment. Fields are length-prefixed, so that no two lists of them look alike.
func (p *eventParser) eventID(sourceID string, e client.ImportedEvent) string {
	if id, err := uuid.Parse(sourceID); err == nil && len(sourceID) == 36 && p.oneEventPerLine() {
		return id.String() // the service may know the event already
	}
	fields := []string{p.UnitType, e.Unit, e.Type, sourceID}
	if sourceID == "" {
		fields = append(fields, timeText(e.OccurredAt), floatText(e.Value), intText(e.ItemsTotal), intText(e.Discounts), e.Currency)
	}
	var name []byte
	for _, f := range fields {
		name = binary.AppendUvarint(name, uint64(len(f)))
		name = append(name, f...)
	}
	return uuid.NewSHA1(uuid.MustParse(eventNamespace), name).String()
}

// oneEventPerLine reports whether the id of a line can be that of its event.
func (p *eventParser) oneEventPerLine() bool {
	return len(p.Columns) == 0 || len(p.Columns) == 1 && p.items < 0
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func floatText(v *float64) string {
	if v == nil {
		return ""
	}
	return strconv.FormatFloat(*v, 'g', -1, 64)
}

func intText(v *int64) string {
	if v == nil {
		return ""
	}
	return strconv.FormatInt(*v, 10)
}
