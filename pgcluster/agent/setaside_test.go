package agent

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/pgcluster"
)

// keeper is an agent of which there is nothing but its folder of diverged WAL.
type keeper struct {
	*Agent

	t *testing.T
}

func newKeeper(t *testing.T) keeper {
	t.Helper()
	return keeper{t: t, Agent: &Agent{p: paths{diverged: t.TempDir()}, log: slog.New(slog.DiscardHandler)}}
}

// put makes a folder. Half a one has no size.
func (k keeper) put(name string, at time.Time, size int64) {
	k.t.Helper()
	path := filepath.Join(k.p.diverged, name)
	if err := os.Mkdir(path, 0o700); err != nil {
		k.t.Fatal(err)
	}
	if size == 0 {
		return
	}
	b, err := json.Marshal(about{SetAside: pgcluster.SetAside{At: at, Bytes: size, Path: path}})
	if err != nil {
		k.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, aboutFile), b, 0o600); err != nil {
		k.t.Fatal(err)
	}
}

func (k keeper) expect(want ...string) {
	k.t.Helper()
	var got []string
	for _, f := range k.divergedFolders() {
		got = append(got, filepath.Base(f.Path))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		k.t.Errorf("folders, oldest first (-want +got):\n%s", diff)
	}
}

// A copy that is made after the clock has stepped back is the newest all the same, of
// copies that an xpd before this one made, too.
func TestPruneDiverged_goesByNumber(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	noon := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	k.put("1-0_60-1795953600000000001", noon.Add(time.Hour), 1)
	k.put("1-0_50-1795953600000000000", noon, 1)
	var want []string
	for i := range 10 {
		at := noon.Add(-time.Duration(i) * time.Hour)
		name := nameAside(1, pgcluster.SetAside{At: at, From: pgcluster.Position{Timeline: 1, LSN: 0x70}}, k.divergedFolders())
		if i == 0 && name != "1-0_70-20261129T120000Z-1" {
			t.Errorf("the first is called %s", name)
		}
		k.put(name, at, 1)
		want = append(want, name)
	}
	k.put("1-0_70-20261129T120000Z-99", noon, 0)
	k.expect(append([]string{"1-0_70-20261129T120000Z-99", "1-0_50-1795953600000000000", "1-0_60-1795953600000000001"}, want...)...)
	if err := k.pruneDiverged(); err != nil {
		t.Fatal(err)
	}
	k.expect(want[5:]...)
}

func TestMakeRoomAside(t *testing.T) {
	t.Parallel()
	const tera = 1 << 40 // more than others take of the disk meanwhile
	free, err := freeIn(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		need uint64
		want []string
	}{
		{1, []string{"half-0-0-4", "1-0_0-0-1", "1-0_0-0-2", "1-0_0-0-3"}},
		{free + tera, []string{"1-0_0-0-2", "1-0_0-0-3"}},
		{free + 3*tera, []string{"1-0_0-0-3"}},
		{free + 9*tera, []string{"1-0_0-0-1", "1-0_0-0-2", "1-0_0-0-3"}}, // no use
	}
	for _, tt := range tests {
		t.Run(strconv.FormatUint(tt.need, 10), func(t *testing.T) {
			t.Parallel()
			k := newKeeper(t)
			for i := range 3 {
				k.put(fmt.Sprintf("1-0_0-0-%d", i+1), time.Unix(1, 0), 2*tera)
			}
			k.put("half-0-0-4", time.Time{}, 0)
			if err := k.makeRoomAside(t.Context(), tt.need); err != nil {
				t.Fatal(err)
			}
			k.expect(tt.want...)
		})
	}
}
