package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
)

// planCommand sizes a deployment.
type planCommand struct {
	*output
}

func (c *planCommand) command() *cobra.Command {
	var (
		d       demand
		events  []float64
		failing []float64
	)
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Say how many instances, cores and partitions a load needs",
		Long: `plan works out what a load needs, from costs measured on one kind of machine;
docs/capacity.md has the model and its limits. It asks neither Kafka nor Redis.
Given several rates or shares, it shows each combination.`,
		Example: `  fanout plan --events-per-second 10000 --subscriptions 5000 --failing 0.01
  fanout plan --events-per-second 10000,100000 --subscriptions 5000 -o json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			d.LatencySeconds = d.Latency.Seconds()
			if d.Hosts == 0 {
				d.Hosts = d.Subscriptions
			}
			var plans []capacity
			for _, d.EventsPerSecond = range events {
				for _, d.Failing = range failing {
					if err := d.validate(); err != nil {
						return misuse(err)
					}
					plans = append(plans, plan(d))
				}
			}
			if c.asJSON() {
				return c.json(plans)
			}
			return c.table(planTable(plans))
		},
	}
	flags := cmd.Flags()
	flags.Float64SliceVar(&events, "events-per-second", nil, "raw events a second, at the peak; one or more")
	flags.IntVar(&d.Subscriptions, "subscriptions", 0, "how many subscriptions there are")
	flags.Float64SliceVar(&failing, "failing", []float64{0.01}, "share of the attempts that fail, 0 to 0.9; one or more")
	flags.Float64Var(&d.FanOut, "fan-out", 1, "how many subscriptions want an event, on average")
	flags.DurationVar(&d.Latency, "latency", 100*time.Millisecond, "how long receivers take to answer, on average")
	flags.IntVar(&d.Hosts, "hosts", 0, "hosts in the subscriptions' URLs (default: as many as subscriptions)")
	flags.BoolVar(&d.HTTP, "http", false, "receivers are reached over http, not https")
	flags.BoolVar(&d.AttemptsTopic, "attempts-topic", false, "with attempts.topic: true")
	flags.IntVar(&d.Cores, "cores", 4, "cores of one instance")
	for _, name := range []string{"events-per-second", "subscriptions"} {
		_ = cmd.MarkFlagRequired(name) // it is a flag of ours
	}
	return cmd
}

func (d *demand) validate() error {
	switch {
	case d.EventsPerSecond <= 0 || d.EventsPerSecond > 1e9:
		return errors.New("--events-per-second: want more than 0")
	case d.Subscriptions < 1:
		return errors.New("--subscriptions: want at least 1")
	case d.Hosts < 1:
		return errors.New("--hosts: want at least 1")
	case d.Failing < 0 || d.Failing > 0.9:
		return errors.New("--failing: want a share from 0 to 0.9, such as 0.01")
	case d.FanOut <= 0 || d.FanOut > 1e6:
		return errors.New("--fan-out: want more than 0")
	case d.Latency <= 0 || d.Latency > time.Minute:
		return errors.New("--latency: want more than 0, and at most a minute")
	case d.Cores < 1:
		return errors.New("--cores: want at least 1")
	}
	return nil
}

// planTable has a column for each plan.
func planTable(plans []capacity) *terminal.Table {
	t := &terminal.Table{Columns: []terminal.Column{{Name: "EVENTS/S"}}}
	for _, p := range plans {
		t.Columns = append(t.Columns, terminal.Column{Name: short(p.Demand.EventsPerSecond), Right: true})
	}
	row := func(name string, cell func(c *capacity) string) {
		cells := []string{name}
		for i := range plans {
			cells = append(cells, cell(&plans[i]))
		}
		t.Rows = append(t.Rows, cells)
	}
	number := func(name string, get func(c *capacity) float64) {
		row(name, func(c *capacity) string { return short(get(c)) })
	}
	row("failing", func(c *capacity) string { return strconv.FormatFloat(100*c.Demand.Failing, 'g', 3, 64) + " %" })
	number("instances, one to spare", func(c *capacity) float64 { return float64(c.Instances) })
	number("cores in all", func(c *capacity) float64 { return float64(c.Cores) })
	row("cores kept busy", func(c *capacity) string { return strconv.FormatFloat(c.BusyCores, 'f', 1, 64) })
	row("memory, each", func(c *capacity) string { return byteSize(float64(c.Memory)) })
	number("in flight, each", func(c *capacity) float64 { return float64(c.InFlight) })
	row("delivery.max_in_flight", func(c *capacity) string { return strconv.Itoa(c.MaxInFlight) })
	number("partitions of the sources", func(c *capacity) float64 { return float64(c.Partitions) })
	number("kafka.retry_partitions", func(c *capacity) float64 { return float64(c.Tier) })
	number("attempts/s", func(c *capacity) float64 { return c.AttemptsPerSecond })
	number("new connections/s", func(c *capacity) float64 { return c.ConnectionsPerSecond })
	number("retry records/s", func(c *capacity) float64 { return c.RetryRecordsPerSecond })
	row("retry topics, written/s", func(c *capacity) string { return byteSize(c.RetryBytesPerSecond) })
	row("retry topics, on disk", func(c *capacity) string { return byteSize(c.RetryDisk) })
	number("more waiting an hour of outage", func(c *capacity) float64 { return c.BacklogPerHour })
	row("network in/s", func(c *capacity) string { return byteSize(c.InBytesPerSecond) })
	row("network out/s", func(c *capacity) string { return byteSize(c.OutBytesPerSecond) })
	return t
}

// short is a number with three digits and a unit.
func short(n float64) string { return scaled(n, 1000, "", " k", " M", " G") }

// byteSize is an amount of them.
func byteSize(n float64) string { return scaled(n, 1024, " B", " KiB", " MiB", " GiB", " TiB") }

func scaled(n, step float64, units ...string) string {
	if n < 0.005 {
		n = 0
	}
	unit := 0
	for n >= step && unit < len(units)-1 {
		n, unit = n/step, unit+1
	}
	if n >= 100 || n == float64(int(n)) {
		return strconv.FormatFloat(n, 'f', 0, 64) + units[unit]
	}
	return fmt.Sprintf("%.3g%s", n, units[unit])
}
