package pgstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/experiment"
)

// saltBytes makes salts that nobody meets twice.
const saltBytes = 16

// querier is a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// layerRow mirrors the layer table.
type layerRow struct {
	ID        int32     `db:"id"`
	Key       string    `db:"key"`
	UnitType  string    `db:"unit_type"`
	Salt      []byte    `db:"salt"`
	CreatedAt time.Time `db:"created_at"`
}

func (r layerRow) domain() experiment.Layer {
	l := experiment.Layer(r)
	l.CreatedAt = r.CreatedAt.UTC()
	return l
}

const layersSQL = `SELECT id, key, unit_type, salt, created_at FROM layer ORDER BY key`

func readLayers(ctx context.Context, q querier) ([]experiment.Layer, error) {
	rows, err := q.Query(ctx, layersSQL)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (experiment.Layer, error) {
		l, err := pgx.RowToStructByName[layerRow](r)
		return l.domain(), err
	})
}

// Layers returns all layers, sorted by key.
func (s *Store) Layers(ctx context.Context) ([]experiment.Layer, error) {
	var layers []experiment.Layer
	err := s.db.Read(ctx, func(ctx context.Context, c *pgx.Conn) (err error) {
		layers, err = readLayers(ctx, c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	return layers, nil
}

const layerSQL = `SELECT id, key, unit_type, salt, created_at FROM layer WHERE key = $1`

func readLayer(ctx context.Context, q querier, key string) (experiment.Layer, error) {
	rows, err := q.Query(ctx, layerSQL, key)
	if err != nil {
		return experiment.Layer{}, err
	}
	l, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[layerRow])
	return l.domain(), translate(err)
}

// Layer returns experiment.ErrNotFound if no layer has the key.
func (s *Store) Layer(ctx context.Context, key string) (experiment.Layer, error) {
	var layer experiment.Layer
	err := s.db.Read(ctx, func(ctx context.Context, c *pgx.Conn) (err error) {
		layer, err = readLayer(ctx, c, key)
		return err
	})
	if err != nil {
		return experiment.Layer{}, fmt.Errorf("layer %q: %w", key, err)
	}
	return layer, nil
}

const insertLayerSQL = `
INSERT INTO layer (key, unit_type, salt, created_at)
VALUES (@key, @unit_type, @salt, @created_at)`

// CreateLayer stores a layer with l's key and unit type and a new salt. It returns
// an *experiment.InvalidError, or experiment.ErrExists if the key is taken.
func (s *Store) CreateLayer(ctx context.Context, l experiment.Layer) (experiment.Layer, error) {
	if err := l.Validate(); err != nil {
		return experiment.Layer{}, err
	}
	salt := newSalt()
	createdAt := s.stamp()
	var stored experiment.Layer
	err := s.change(ctx, func(ctx context.Context, tx pgx.Tx) (done bool, err error) {
		stored, err = readLayer(ctx, tx, l.Key)
		switch {
		case err == nil && string(stored.Salt) == string(salt):
			return true, nil // an earlier try of this very call stored it
		case err == nil:
			return false, experiment.ErrExists
		case !errors.Is(err, experiment.ErrNotFound):
			return false, err
		}
		_, err = tx.Exec(ctx, insertLayerSQL, pgx.NamedArgs{
			"key": l.Key, "unit_type": l.UnitType, "salt": salt, "created_at": createdAt,
		})
		if err != nil {
			return false, err
		}
		stored, err = readLayer(ctx, tx, l.Key)
		return false, err
	})
	if err != nil {
		return experiment.Layer{}, fmt.Errorf("create layer %q: %w", l.Key, err)
	}
	return stored, nil
}

// change runs fn in a transaction that holds the definitions alone, and then
// tells every node; this one answers from the new definitions before change
// returns. fn may run again; done says that an earlier try has been committed.
func (s *Store) change(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) (done bool, err error)) error {
	if err := s.changing.take(ctx); err != nil {
		return err
	}
	defer s.changing.end()
	var version int64
	err := s.db.Do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "SELECT lock_definitions()"); err != nil {
				return err
			}
			done, err := fn(ctx, tx)
			if err != nil {
				return err
			}
			if done {
				if _, err := tx.Exec(ctx, proveSQL); err != nil {
					return err
				}
				return tx.QueryRow(ctx, versionSQL).Scan(&version)
			}
			return tx.QueryRow(ctx, "SELECT bump_definitions()").Scan(&version)
		})
	})
	if err != nil {
		return err
	}
	return s.reach(ctx, version)
}

// reach returns once the snapshot is at version or past it.
func (s *Store) reach(ctx context.Context, version int64) error {
	snap, err := s.definitions(ctx)
	for err == nil && snap.Version() < version {
		snap, err = s.refresh(ctx, snap.Version())
	}
	return err
}

func newSalt() []byte {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // documented never to fail
	return salt
}

// stamp returns the time as PostgreSQL stores it.
func (s *Store) stamp() time.Time { return s.now().UTC().Truncate(time.Microsecond) }
