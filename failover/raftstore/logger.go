package raftstore

import (
	"context"
	"io"
	"log/slog"
	"slices"

	"github.com/hashicorp/go-hclog"
)

// raftLogger returns the logger that Raft wants, writing to l.
func raftLogger(l *slog.Logger) hclog.Logger {
	out := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Output: io.Discard})
	out.RegisterSink(slogSink{l})
	return out
}

type slogSink struct{ l *slog.Logger }

// Accept implements hclog.SinkAdapter. hclog and slog share the key, value form.
func (s slogSink) Accept(name string, level hclog.Level, msg string, args ...any) {
	args = append(slices.Clip(args), "said", msg, "raft_part", name)
	s.l.Log(context.Background(), slogLevel(level), "raft", args...)
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
