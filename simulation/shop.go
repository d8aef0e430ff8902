package simulation

import (
	"context"
	"fmt"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/experiment"
)

// unitType is the type of every simulated unit.
const unitType = "user"

// Samples returns two experiments in two layers, for people to play with. Each
// owns its whole layer, so that every user is in both.
func Samples() []client.Definition {
	return []client.Definition{
		{
			Key: "checkout_button", Layer: "checkout", Description: "Does a green button sell more?",
			Slots: []client.Slots{{From: 0, To: experiment.SlotCount}},
			Treatments: []client.Arm{
				{Key: "blue", Control: true, Weight: 1, Values: map[string]experiment.Value{"button": experiment.StringValue("blue")}},
				{Key: "green", Weight: 1, Values: map[string]experiment.Value{"button": experiment.StringValue("green")}},
			},
			Metrics: shopMetrics(),
		},
		searchColumns(),
	}
}

// shop returns three experiments in two layers: two that exclude each other, and
// one that overlaps both. Every user is in exactly two.
func shop() []client.Definition {
	const half = experiment.SlotCount / 2
	return []client.Definition{
		{
			Key: "checkout_button", Layer: "checkout", Slots: []client.Slots{{From: 0, To: half}},
			Treatments: []client.Arm{
				{Key: "blue", Control: true, Weight: 1, Values: map[string]experiment.Value{"button": experiment.StringValue("blue")}},
				{Key: "green", Weight: 1, Values: map[string]experiment.Value{"button": experiment.StringValue("green")}},
			},
			Metrics: shopMetrics(),
		},
		{
			Key: "free_shipping", Layer: "checkout", Slots: []client.Slots{{From: half, To: experiment.SlotCount}},
			Treatments: []client.Arm{
				{Key: "from_50", Control: true, Weight: 3, Values: map[string]experiment.Value{"free_from": experiment.IntValue(5000)}},
				{Key: "from_20", Weight: 1, Values: map[string]experiment.Value{"free_from": experiment.IntValue(2000)}},
			},
			Metrics: shopMetrics(),
		},
		searchColumns(),
	}
}

func searchColumns() client.Definition {
	columns := func(n int64) map[string]experiment.Value {
		return map[string]experiment.Value{"columns": experiment.IntValue(n)}
	}
	return client.Definition{
		Key: "search_columns", Layer: "search", Description: "How many results fit a row?",
		Slots: []client.Slots{{From: 0, To: experiment.SlotCount}},
		Treatments: []client.Arm{
			{Key: "three", Control: true, Weight: 2, Values: columns(3)},
			{Key: "four", Weight: 1, Values: columns(4)},
			{Key: "five", Weight: 1, Values: columns(5)},
		},
		Metrics: shopMetrics(),
	}
}

func shopMetrics() []client.Metric {
	return []client.Metric{
		{Key: "buyers", Kind: experiment.MetricConversion, Event: experiment.EventPurchase},
		{Key: "sales", Kind: experiment.MetricSales, Event: experiment.EventPurchase},
	}
}

// Install creates and starts the experiments and creates their layers. What is
// there already is left as it is, but that a draft is started.
func Install(ctx context.Context, c *client.Client, definitions []client.Definition) error {
	existing, err := c.Experiments(ctx, "")
	if err != nil {
		return fmt.Errorf("install sample experiments: %w", err)
	}
	states := make(map[string]experiment.State, len(existing))
	for _, e := range existing {
		states[e.Key] = e.State
	}
	for _, d := range definitions {
		state, found := states[d.Key]
		if !found {
			if _, err := c.CreateLayer(ctx, d.Layer, unitType); err != nil {
				return fmt.Errorf("install sample experiments: %w", err)
			}
			e, err := c.CreateExperiment(ctx, d)
			if err != nil {
				return fmt.Errorf("install sample experiments: %w", err)
			}
			state = e.State
		}
		if state != experiment.StateDraft {
			continue
		}
		if _, err := c.MoveExperiment(ctx, d.Key, client.Start, 0); err != nil {
			return fmt.Errorf("install sample experiments: %w", err)
		}
	}
	return nil
}
