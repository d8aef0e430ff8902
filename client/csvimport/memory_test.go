package csvimport_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/client/csvimport"
)

// maxHeap is what an import may hold, in the service and its client together.
const maxHeap = 256 << 20

// generate writes n players with made-up answers, like those of cookieCats.
func generate(tb testing.TB, path string, n int) {
	tb.Helper()
	f, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	w := bufio.NewWriter(f)
	fmt.Fprintln(w, "userid,version,sum_gamerounds,retention_1")
	for i := range n {
		fmt.Fprintf(w, "player-%08d,%s,%d,%s\n", i, []string{"gate_30", "gate_40"}[i%2], i%50, []string{"TRUE", "FALSE"}[i%3%2])
	}
	if err := w.Flush(); err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
}

// watchHeap returns a function that returns the largest heap and memory from the
// system since then, of this whole process.
func watchHeap() (stop func() (heap, sys uint64)) {
	done, stopped := make(chan struct{}), make(chan struct{})
	var heap, sys uint64
	go func() {
		defer close(stopped)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			heap, sys = max(heap, m.HeapInuse), max(sys, m.Sys)
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() (uint64, uint64) {
		close(done)
		<-stopped
		return heap, sys
	}
}

// importGenerated imports n lines as assignments and again as events, and returns
// the largest heap on the way.
func importGenerated(tb testing.TB, n int) (heap, sys uint64) {
	tb.Helper()
	s := serve(tb)
	s.experiment(tb, "gate", nil, "gate_30", "gate_40")
	dir := tb.TempDir()
	o := csvimport.Options{File: filepath.Join(dir, "big.csv"), Rejects: filepath.Join(dir, "rejects.csv")}
	generate(tb, o.File, n)
	stop := watchHeap()
	got, err := csvimport.ImportAssignments(tb.Context(), s, o, versions())
	if err != nil || got.Inserted != int64(n) {
		tb.Fatalf("import = %+v, %v, want %d rows", got, err, n)
	}
	got, err = csvimport.ImportEvents(tb.Context(), s, o, csvimport.Events{
		UnitType: "user", UnitColumn: "userid",
		Columns: []csvimport.EventColumn{{Type: "retention_1", Column: "retention_1"}, {Type: "rounds", Column: "sum_gamerounds"}},
	})
	if err != nil || got.Lines != int64(n) || got.Rejected != 0 {
		tb.Fatalf("import = %+v, %v, want %d lines", got, err, n)
	}
	return stop()
}

// BenchmarkImport_millionRows measures what a large import holds in memory, the
// service and its client together, and how fast it is.
func BenchmarkImport_millionRows(b *testing.B) {
	const rows = 1_000_000
	var heap, sys uint64
	for b.Loop() {
		heap, sys = importGenerated(b, rows)
	}
	b.ReportMetric(float64(heap)/(1<<20), "MiB-heap")
	b.ReportMetric(float64(sys)/(1<<20), "MiB-sys")
	b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "lines/s")
	if sys > maxHeap {
		b.Errorf("the import held %d MiB, want at most %d", sys>>20, maxHeap>>20)
	}
}

// TestImport_constantMemory is the same on a small scale: what an import holds is
// a few batches, however many there are.
func TestImport_constantMemory(t *testing.T) { //nolint:paralleltest // what other tests hold would count
	if testing.Short() {
		t.Skip("imports many lines")
	}
	heap, sys := importGenerated(t, 30_000)
	t.Logf("heap %d MiB, from the system %d MiB", heap>>20, sys>>20)
	if heap > maxHeap/2 {
		t.Errorf("30,000 lines took %d MiB", heap>>20)
	}
}
