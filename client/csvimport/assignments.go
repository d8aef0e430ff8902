package csvimport

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/experiment"
)

// Assignments says how lines are read as assignments.
type Assignments struct {
	Experiment       string
	UnitType         string
	UnitColumn       string
	TreatmentColumn  string
	AssignedAtColumn string    `json:",omitempty"`
	AssignedAt       time.Time `json:",omitzero"`  // of all lines; zero, without a column too: the start of the run
	NoExposure       bool      `json:",omitempty"` // assigned only; otherwise also exposed at that time
}

// AssignmentSender stores a batch. *client.Client is one.
type AssignmentSender interface {
	ImportAssignments(ctx context.Context, batch client.AssignmentImport) (client.ImportResult, error)
}

// ImportAssignments imports the assignments in a file.
func ImportAssignments(ctx context.Context, to AssignmentSender, o Options, a Assignments) (Result, error) {
	return run(ctx, o, plan[client.ImportedAssignment]{
		name: a,
		bind: a.bind,
		send: func(ctx context.Context, rows []client.ImportedAssignment) (client.ImportResult, error) {
			return to.ImportAssignments(ctx, client.AssignmentImport{
				Experiment: a.Experiment, UnitType: a.UnitType, Exposed: !a.NoExposure, Rows: rows,
			})
		},
	})
}

func (a Assignments) bind(header columns) (parser[client.ImportedAssignment], error) {
	unit, errUnit := header.find(a.UnitColumn)
	treatment, errTreatment := header.find(a.TreatmentColumn)
	at, errAt := header.findOptional(a.AssignedAtColumn)
	if err := errors.Join(errUnit, errTreatment, errAt); err != nil {
		return nil, err
	}
	return func(fields []string) ([]client.ImportedAssignment, error) {
		if err := checkUnit(a.UnitType, fields[unit]); err != nil {
			return nil, err
		}
		if fields[treatment] == "" {
			return nil, errors.New("the treatment is empty")
		}
		row := client.ImportedAssignment{Unit: fields[unit], Treatment: fields[treatment], AssignedAt: a.AssignedAt}
		if at >= 0 {
			var err error
			if row.AssignedAt, err = parseTime(a.AssignedAtColumn, fields[at]); err != nil {
				return nil, err
			}
		}
		return []client.ImportedAssignment{row}, nil
	}, nil
}

// checkUnit finds what JSON would hide from the service: bytes that are no UTF-8.
func checkUnit(unitType, id string) error {
	_, err := experiment.ParseUnit(unitType, id)
	if e, ok := errors.AsType[*experiment.InvalidError](err); ok {
		return fmt.Errorf("%s %s", e.Field, e.Reason)
	}
	return err
}

func parseTime(column, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s must be a time such as 2026-01-31T15:04:05Z", column)
	}
	return t, nil
}
