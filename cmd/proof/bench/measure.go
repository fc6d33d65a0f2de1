package main

import (
	"fmt"
	"slices"
	"time"
)

// figure is what one run, or one loop, came to.
type figure struct {
	pace float64       // deliveries a second
	cpu  time.Duration // user and system time of the process a delivery
}

func (f figure) String() string { return fmt.Sprintf("%6.0f/s %5.1f µs", f.pace, micros(f.cpu)) }

// of says pace and CPU as parts of another's.
func (f figure) of(base figure) (pace, cpu float64) {
	return f.pace / base.pace, float64(f.cpu) / float64(base.cpu)
}

func newFigure(n int64, took, cpu time.Duration) figure {
	return figure{pace: float64(n) / took.Seconds(), cpu: cpu / time.Duration(n)}
}

// quantile is the smallest value that is not below a share q of all values; 0 of none. It sorts them.
func quantile[T int64 | float64 | time.Duration](values []T, q float64) T {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(int(q*float64(len(values))), len(values)-1)]
}

// median of what pick takes from each.
func median[T any, V int64 | float64 | time.Duration](all []T, pick func(T) V) V {
	values := make([]V, len(all))
	for i, v := range all {
		values[i] = pick(v)
	}
	slices.Sort(values)
	switch n := len(values); {
	case n == 0:
		return 0
	case n%2 == 0:
		return (values[n/2-1] + values[n/2]) / 2
	default:
		return values[n/2]
	}
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
