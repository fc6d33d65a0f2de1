package dispatcher_test

import (
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fanout/dispatcher"
)

// The last bound is the deadline, so that no quantile lies beyond what an attempt can take.
func TestAttemptBucketsEndAtTheDeadline(t *testing.T) {
	t.Parallel()
	for deadline, want := range map[time.Duration][]float64{
		10 * time.Second:       {.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		2 * time.Second:        {.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2},
		45 * time.Second:       {.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 45},
		time.Hour:              {.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 3600},
		500 * time.Microsecond: {.0005},
	} {
		registry := prometheus.NewRegistry()
		if _, err := dispatcher.New(dispatcher.Config{Delivery: dispatcher.DeliveryConfig{Timeout: deadline}}, nil, nil, registry); err != nil {
			t.Fatal(err)
		}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var got []float64
		for _, family := range families {
			if family.GetName() == "fanout_attempt_seconds" {
				for _, b := range family.GetMetric()[0].GetHistogram().GetBucket() {
					got = append(got, b.GetUpperBound())
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("a deadline of %s has the bounds %v, want %v", deadline, got, want)
		}
	}
}
