package agent

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/pgcluster"
)

// What a server runs with, and what it would run with after a restart: what the files
// say last, or what it has without them.
const waitingSQL = `
SELECT name, coalesce(setting, ''), coalesce(
	(SELECT f.setting FROM pg_file_settings f WHERE lower(f.name) = s.name ORDER BY f.seqno DESC LIMIT 1), boot_val, '')
FROM pg_settings s WHERE pending_restart ORDER BY name`

// waiting are settings that wait for a restart. Of those of standbyFloors it is known
// which way they go, for the order of restarts rests on it.
type waiting struct{ all, higher, lower []string }

func findWaiting(ctx context.Context, conn *pgx.Conn) (waiting, error) {
	var w waiting
	rows, err := conn.Query(ctx, waitingSQL)
	if err != nil {
		return w, fmt.Errorf("look for settings that wait for a restart: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Name, Now, Next string }])
	if err != nil {
		return w, fmt.Errorf("look for settings that wait for a restart: %w", err)
	}
	for _, s := range found {
		w.all = append(w.all, s.Name)
		if _, bounded := standbyFloors[s.Name]; !bounded {
			continue
		}
		now, ok := wholeNumber(s.Now)
		next, valid := wholeNumber(s.Next)
		switch {
		case !ok || !valid: // PostgreSQL does not take it either
		case next < now:
			w.lower = append(w.lower, s.Name)
		case next > now:
			w.higher = append(w.higher, s.Name)
		}
	}
	return w, nil
}

// report makes w what r says of waiting settings. A server that is down was asked when
// it still ran: a start takes what is in the files.
func (w waiting) report(r *pgcluster.Report) {
	if r.Down() {
		w = waiting{}
	}
	r.Pending, r.Higher, r.Lower = w.all, w.higher, w.lower
}

// wholeNumber reads a number as PostgreSQL does in a configuration file: also in hex or
// octal, and rounded.
func wholeNumber(text string) (int, bool) {
	text = strings.TrimSpace(text)
	if n, err := strconv.ParseInt(text, 0, 32); err == nil {
		return int(n), true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || math.Abs(f) > math.MaxInt32 {
		return 0, false
	}
	return int(math.RoundToEven(f)), true
}
