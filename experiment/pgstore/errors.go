package pgstore

import (
	"errors"
	"slices"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/xpd-platform/xpd/experiment"
)

// codeStale is raised by check_definitions.
const codeStale = "XP001"

func hasCode(err error, codes ...string) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains(codes, pgErr.Code)
}

// translate maps driver errors to domain errors.
func translate(err error) error {
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return experiment.ErrNotFound
	case hasCode(err, pgerrcode.UniqueViolation):
		return experiment.ErrExists
	}
	return err
}
