package simulation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/xpd-platform/xpd/simulation/localcluster"
)

// SoakOptions is a load, and for how long it runs on processors that are busy.
type SoakOptions struct {
	Options
	For time.Duration
}

// soakLook is how often a soak looks and how often it says so.
const (
	soakLook = time.Second
	soakSay  = time.Minute
)

// SoakReport is what came of Soak.
type SoakReport struct {
	Seconds float64 `json:"seconds"`
	Loops   int     `json:"busy_loops"`
	Epochs  uint64  `json:"new_epochs"` // failovers that nothing called for
	Report  Report  `json:"report"`
}

// Soak keeps all processors busy beside a ready cluster under load, as long as it is
// told, and counts the epochs that begin although nothing is broken.
func Soak(ctx context.Context, c *localcluster.Cluster, o SoakOptions) (SoakReport, error) {
	out := SoakReport{Loops: runtime.NumCPU()}
	report, err := Drive(ctx, c, o.Options, func(ctx context.Context, s *Session) error {
		if err := s.Hold(ctx, warmUp); err != nil {
			return err
		}
		before, err := s.Epoch(ctx)
		if err != nil {
			return err
		}
		stop, err := burn(out.Loops)
		if err != nil {
			return err
		}
		defer stop()
		s.Warm()
		began := time.Now()
		for said := began; time.Since(began) < o.For; {
			if err := s.Hold(ctx, min(soakLook, o.For-time.Since(began))); err != nil {
				return err
			}
			now, err := s.Epoch(ctx)
			if err != nil {
				return err
			}
			if now-before != out.Epochs || time.Since(said) >= soakSay {
				said, out.Epochs = time.Now(), now-before
				s.Say("%d busy loops for %s: %d failovers", out.Loops, time.Since(began).Round(time.Second), out.Epochs)
			}
		}
		out.Seconds = time.Since(began).Seconds()
		return nil
	})
	out.Report = report
	return out, err
}

// burn starts processes that never rest. The function that it returns ends them.
func burn(loops int) (stop func(), err error) {
	var running []*exec.Cmd
	stop = func() {
		for _, cmd := range running {
			_ = cmd.Process.Kill() // it does not end by itself
			_ = cmd.Wait()         // says that it was killed
		}
	}
	for range loops {
		cmd := exec.Command("/bin/sh", "-c", "while :; do :; done") //nolint:noctx // ended by stop
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			stop()
			return nil, fmt.Errorf("start a busy loop: %w", err)
		}
		running = append(running, cmd)
	}
	return stop, nil
}

// Err says what went wrong, or nil.
func (r SoakReport) Err() error {
	kept := r.Report
	kept.Requests.Failed = 0 // how much a busy machine serves is not the question
	err := kept.Err()
	if r.Epochs > 0 {
		err = errors.Join(err, fmt.Errorf("%d failovers although nothing was broken", r.Epochs))
	}
	return err
}

// WriteText prints the report for people.
func (r SoakReport) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d busy loops beside %g requests for treatments per second for %.0f s: %d failovers\n",
		r.Loops, r.Report.Rate, r.Seconds, r.Epochs)
	r.Report.writeCounts(&b)
	r.Report.writeAudits(&b)
	r.Report.writeLatency(&b)
	_, err := io.WriteString(w, b.String())
	return err
}
