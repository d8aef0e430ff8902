package report

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/experiment"
)

const countsSQL = `
SELECT a.treatment, a.version, count(*) AS assigned, count(x.unit_key) AS exposed
FROM assignment a
LEFT JOIN exposure x ON x.unit_key = a.unit_key AND x.run_id = a.run_id
WHERE a.run_id = $1
GROUP BY a.treatment, a.version`

func readCounts(ctx context.Context, tx pgx.Tx, runID int32) ([]assignedCount, error) {
	rows, err := tx.Query(ctx, countsSQL, runID)
	if err != nil {
		return nil, fmt.Errorf("count units: %w", err)
	}
	counts, err := pgx.CollectRows(rows, pgx.RowToStructByName[assignedCount])
	if err != nil {
		return nil, fmt.Errorf("count units: %w", err)
	}
	return counts, nil
}

const weightsSQL = `
SELECT v.version, (t.value ->> 'no')::smallint AS treatment, (t.value ->> 'weight')::bigint AS weight
FROM experiment_version v
CROSS JOIN jsonb_array_elements(v.definition -> 'treatments') t
WHERE v.experiment_id = $1`

func readWeights(ctx context.Context, tx pgx.Tx, experimentID int32) ([]weight, error) {
	rows, err := tx.Query(ctx, weightsSQL, experimentID)
	if err != nil {
		return nil, fmt.Errorf("read weights: %w", err)
	}
	weights, err := pgx.CollectRows(rows, pgx.RowToStructByName[weight])
	if err != nil {
		return nil, fmt.Errorf("read weights: %w", err)
	}
	return weights, nil
}

// sumsRow is a metric in one treatment. The sums are exact, and may be larger than
// any float64.
type sumsRow struct {
	Treatment    int16
	Units        int64
	Converted    int64
	Sum          string
	Squares      string
	LowCurrency  *string
	HighCurrency *string
}

// sums returns false if they are too large for float64.
func (r sumsRow) sums() (sums, bool) {
	sum, errSum := strconv.ParseFloat(r.Sum, 64)
	squares, errSquares := strconv.ParseFloat(r.Squares, 64)
	return sums{r.Units, r.Converted, sum, squares}, errSum == nil && errSquares == nil
}

// sumsSQL joins the units with what each did, a row per unit, so that it is one
// pass over the events however many there are for a unit. Numeric keeps the sums
// exact: the rounding of a long float8 addition would come back as variance.
const (
	sumsSQLBegin = `
SELECT a.treatment, count(*) AS units, count(did.unit_key) AS converted,
    coalesce(sum(did.value), 0)::text AS sum,
    coalesce(sum(did.value * did.value), 0)::text AS squares,
    min(did.low_currency) AS low_currency, max(did.high_currency) AS high_currency
FROM assignment a
JOIN exposure x ON x.unit_key = a.unit_key AND x.run_id = a.run_id
LEFT JOIN (
    SELECT x.unit_key, `
	sumsSQLEnd = `
    FROM exposure x
    JOIN event e ON e.unit_key = x.unit_key
    WHERE x.run_id = $1 AND e.type = $2 AND e.occurred_at >= x.exposed_at
    GROUP BY x.unit_key
) did ON did.unit_key = a.unit_key
WHERE a.run_id = $1
GROUP BY a.treatment`

	conversionSQL = sumsSQLBegin + `1::numeric AS value,
        NULL::text AS low_currency, NULL::text AS high_currency` + sumsSQLEnd
	meanSQL = sumsSQLBegin + `sum(e.value::numeric) AS value,
        NULL::text AS low_currency, NULL::text AS high_currency` + sumsSQLEnd
	salesSQL = sumsSQLBegin + `sum(e.items_total::numeric - coalesce(e.discounts, 0)) AS value,
        min(e.currency::text) AS low_currency, max(e.currency::text) AS high_currency` + sumsSQLEnd
)

func readSums(ctx context.Context, tx pgx.Tx, runID int32, m experiment.Metric) ([]sumsRow, error) {
	sql := meanSQL
	switch m.Kind {
	case experiment.MetricConversion:
		sql = conversionSQL
	case experiment.MetricSales:
		sql = salesSQL
	case experiment.MetricMean:
	}
	rows, err := tx.Query(ctx, sql, runID, m.Event)
	if err != nil {
		return nil, fmt.Errorf("sum up: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[sumsRow])
	if err != nil {
		return nil, fmt.Errorf("sum up: %w", err)
	}
	return found, nil
}
