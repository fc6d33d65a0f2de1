package admin

// histogram is how often something of a size was observed.
type histogram struct {
	count   float64  // of all, those above the last bound too
	buckets []bucket // cumulative, by rising bound
}

// bucket is how many were at most as large as the bound.
type bucket struct{ bound, count float64 }

// since is what was observed after an earlier reading of the same histogram. An earlier one without buckets is empty.
func (h *histogram) since(was histogram) histogram {
	out := histogram{count: h.count - was.count}
	for i, b := range h.buckets {
		if i < len(was.buckets) {
			b.count -= was.buckets[i].count
		}
		out.buckets = append(out.buckets, b)
	}
	return out
}

// quantile estimates the size that a share q of the observations do not exceed, as Prometheus does: linearly within a
// bucket. All that is known of what lies above the last bound is that it does; it counts as that bound.
func (h *histogram) quantile(q float64) float64 {
	rank, lower := q*h.count, bucket{}
	for _, b := range h.buckets {
		if b.count >= rank && b.count > lower.count {
			return lower.bound + (b.bound-lower.bound)*(rank-lower.count)/(b.count-lower.count)
		}
		lower = b
	}
	return lower.bound
}

// newHistogram is empty, of durations in milliseconds: its bounds rise by a fifth to a quarter.
func newHistogram() histogram {
	var h histogram
	for decade := 1.0; decade <= 10_000; decade *= 10 {
		for _, n := range []float64{1, 1.25, 1.6, 2, 2.5, 3.2, 4, 5, 6.3, 8} {
			h.buckets = append(h.buckets, bucket{bound: n * decade})
		}
	}
	return h
}

// observe counts one of the size v.
func (h *histogram) observe(v float64) {
	h.count++
	for i := range h.buckets {
		if v <= h.buckets[i].bound {
			h.buckets[i].count++
		}
	}
}
