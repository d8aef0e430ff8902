package main

import (
	"context"
	"fmt"
	"time"
)

type pauseCmd struct {
	For time.Duration `default:"1h" help:"When it ends by itself."`
	Yes bool          `short:"y" help:"Do not ask."`
	because
}

// Run asks first: nobody takes over meanwhile.
func (c *pauseCmd) Run(ctx context.Context, env *env) error {
	if !c.Yes {
		if err := env.confirmed(ctx, "Pause for %s?\nIf the primary dies meanwhile, writes wait until the pause ends.", c.For); err != nil {
			return err
		}
	}
	ctx, cancel := env.within(ctx, changeTime)
	defer cancel()
	p, err := env.act.PauseCluster(ctx, c.For, c.Reason)
	if err != nil {
		return notDone(err)
	}
	return env.print(p, fmt.Sprintf("paused until %s\n", p.Until.UTC().Format(pauseEnd)))
}

// pauseEnd is how the end of a pause is shown.
const pauseEnd = "2006-01-02 15:04:05Z"

type resumeCmd struct {
	unasked
	because
}

// Run ends a pause.
func (c *resumeCmd) Run(ctx context.Context, env *env) error {
	ctx, cancel := env.within(ctx, changeTime)
	defer cancel()
	if err := env.act.ResumeCluster(ctx, c.Reason); err != nil {
		return notDone(err)
	}
	return env.print(struct{}{}, "resumed\n")
}
