package simulation_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation"
)

// Both standbys in turn: without the first one back, the second would be missed.
func TestF01_PostgresOfStandbysKilled(t *testing.T) { //nolint:paralleltest // they share a cluster
	underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		_, standbys, err := s.Roles(ctx)
		if err != nil {
			return err
		}
		for _, id := range standbys {
			err := s.Disturb(ctx, "F1 on "+string(id), func(ctx context.Context) error {
				before, err := postgresStarted(ctx, s, id)
				if err != nil {
					return err
				}
				if err := s.Cluster.KillPostgres(id); err != nil {
					return err
				}
				_, err = s.Cluster.WaitStatus(ctx, "PostgreSQL of "+string(id)+" runs again", func(failover.Status) bool {
					now, err := postgresStarted(ctx, s, id)
					return err == nil && now.After(before)
				})
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func TestF03_PostgresOfThePrimaryHangs(t *testing.T) { //nolint:paralleltest // they share a cluster
	r := underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F3", func(ctx context.Context) error {
			primary, err := s.Cluster.Primary(ctx)
			if err != nil {
				return err
			}
			resume := func() {}
			defer func() { resume() }()
			return s.Failover(ctx, func() (err error) {
				resume, err = suspendPostgres(s.Cluster.Dir(), primary)
				return err
			})
		})
	})
	if d := r.Disturbances[0]; d.From == d.To {
		t.Errorf("%s is primary before and after", d.To)
	}
}

// suspendPostgres stops a postmaster and then its children, which cannot become
// more any longer. It returns what lets those go on that still live.
func suspendPostgres(dir string, id pgcluster.NodeID) (resume func(), err error) {
	content, err := os.ReadFile(filepath.Join(dir, string(id), "pg", "data", "postmaster.pid"))
	if err != nil {
		return func() {}, err
	}
	line, _, _ := strings.Cut(string(content), "\n")
	postmaster, err := strconv.Atoi(line)
	if err != nil {
		return func() {}, err
	}
	if err := syscall.Kill(postmaster, syscall.SIGSTOP); err != nil {
		return func() {}, fmt.Errorf("stop the postmaster: %w", err)
	}
	pids := []int{postmaster}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", postmaster))
	for field := range strings.FieldsSeq(string(children)) {
		if pid, err := strconv.Atoi(field); err == nil && syscall.Kill(pid, syscall.SIGSTOP) == nil {
			pids = append(pids, pid)
		}
	}
	return func() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGCONT) // one that was killed needs none
		}
	}, err
}
