package raftstore

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// raftLogger returns the logger that Raft wants, writing to l.
func raftLogger(l *slog.Logger) hclog.Logger {
	out := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Output: io.Discard})
	out.RegisterSink(&slogSink{l: l, last: map[string]time.Time{}})
	return out
}

// repeatAfter is how soon the same line about the same peer is logged again: Raft
// complains of a peer that is away twice a second.
const repeatAfter = time.Minute

type slogSink struct {
	l *slog.Logger

	mu   sync.Mutex
	last map[string]time.Time // by message and peer; both are few
}

// Accept implements hclog.SinkAdapter. hclog and slog share the key, value form.
func (s *slogSink) Accept(name string, level hclog.Level, msg string, args ...any) {
	if level >= hclog.Warn && s.repeated(msg+peerOf(args)) {
		return
	}
	args = append(slices.Clip(args), "said", msg, "raft_part", name)
	s.l.Log(context.Background(), slogLevel(level), "raft", args...)
}

func (s *slogSink) repeated(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if last, ok := s.last[key]; ok && now.Sub(last) < repeatAfter {
		return true
	}
	s.last[key] = now
	return false
}

// peerOf returns the peer that a line is about, or "".
func peerOf(args []any) string {
	for i := 0; i+1 < len(args); i += 2 {
		if args[i] == "peer" || args[i] == "target" {
			return fmt.Sprint(args[i+1])
		}
	}
	return ""
}

// slogLevel ranks Raft's lines one lower: what it calls an error, such as a peer
// that does not answer, it handles by itself, and its progress is detail here.
func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Error:
		return slog.LevelWarn
	case hclog.Warn:
		return slog.LevelInfo
	case hclog.NoLevel, hclog.Trace, hclog.Debug, hclog.Info, hclog.Off:
	}
	return slog.LevelDebug
}
