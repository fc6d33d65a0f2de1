package main

import "testing"

func TestCollectorGrowth(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 800}, {8 << 20, 800}, {16 << 20, 700}, {32 << 20, 300}, {64 << 20, 100}, {90 << 20, 50}, {500 << 20, 50}} {
		if got := collectorGrowth(c.live); got != c.want {
			t.Errorf("with %d MiB alive the heap may grow by %d %%, want %d %%", c.live>>20, got, c.want)
		}
	}
}
