package agent_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// TestAgent_hang has a server that is stopped by a signal: it is not down, but the
// report says that it does not answer.
func TestAgent_hang(t *testing.T) {
	t.Parallel()
	n1 := initialized(t, 1, false)[0]
	n1.await("an answer of a moment ago", func(r pgcluster.Report) bool { return r.AnsweredAgo < time.Second })
	pid, ok := n1.postmaster()
	if !ok {
		t.Fatal("no postmaster")
	}
	resume := suspend(t, pid)
	defer resume()
	r := n1.await("silence", func(r pgcluster.Report) bool { return r.AnsweredAgo >= time.Second })
	if !r.Running() || r.Role != pgcluster.RolePrimary {
		t.Errorf("a server that hangs is reported as %s, %s", r.Process, r.Role)
	}
	resume()
	n1.await("an answer", func(r pgcluster.Report) bool { return r.AnsweredAgo < time.Second })
}

// suspend stops a postmaster and then its children, which cannot become more any
// longer. It returns what lets them go on.
func suspend(t *testing.T, postmaster int) func() {
	t.Helper()
	if err := syscall.Kill(postmaster, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	pids := []int{postmaster}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", postmaster))
	if err != nil {
		t.Error(err)
	}
	for field := range strings.FieldsSeq(string(children)) {
		if pid, err := strconv.Atoi(field); err == nil && syscall.Kill(pid, syscall.SIGSTOP) == nil {
			pids = append(pids, pid)
		}
	}
	return func() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGCONT) // one that has ended needs none
		}
	}
}
