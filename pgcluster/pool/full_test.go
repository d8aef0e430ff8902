package pool_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/internal/pgtest"
)

// A full disk is no answer to the caller: somebody makes room, or the primary dies
// of it and another one takes over.
func TestDo_outlivesAFullDisk(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 1)
	p := start(t, c)
	p.Retarget(target(1, c, 0))
	tries := 0
	err := p.Do(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
		if tries++; tries > 2 {
			return nil
		}
		_, err := conn.Exec(ctx, `DO $$ BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END $$`)
		return err
	})
	if err != nil {
		t.Fatalf("Do() = %v, want that it tries until there is room", err)
	}
	if got, err := retries(p.reg, "disk_full"); err != nil || got != 2 {
		t.Errorf("retries for disk_full = %v, %v, want 2", got, err)
	}
}
