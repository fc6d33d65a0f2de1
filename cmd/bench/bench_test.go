package main

import (
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	values := make([]time.Duration, 0, 100)
	for i := range 100 {
		values = append(values, time.Duration(100-i))
	}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 51, 0.99: 100, 1: 100} {
		if got := quantile(values, q); got != want {
			t.Errorf("quantile %v: %d, want %d", q, got, want)
		}
	}
	if got := quantile([]float64{}, 0.5); got != 0 {
		t.Errorf("quantile of none: %v", got)
	}
}

func TestMedian(t *testing.T) {
	itself := func(v float64) float64 { return v }
	for want, values := range map[float64][]float64{2: {3, 1, 2}, 2.5: {4, 1, 3, 2}, 7: {7}, 0: {}} {
		if got := median(values, itself); got != want {
			t.Errorf("median of %v: %v, want %v", values, got, want)
		}
	}
}

func TestTrackNumber(t *testing.T) {
	if n, ok := trackNumber([]byte(`{"eventType":"OPEN","trackingId":"track-42","userId":"u"}`)); !ok || n != 42 {
		t.Errorf("number %d, %v", n, ok)
	}
	for _, body := range []string{"", `{"trackingId":"abc"}`, `{"trackingId":"track-x"}`, `{"trackingId":"track-1`, `{"trackingId":"track--1"}`} {
		if n, ok := trackNumber([]byte(body)); ok {
			t.Errorf("%s: number %d", body, n)
		}
	}
}

func TestUnknownPart(t *testing.T) {
	if err := run(t.Context(), []string{"nonesuch"}, t.Output()); err == nil {
		t.Error("no error")
	}
	if err := run(t.Context(), []string{"help"}, t.Output()); err != nil {
		t.Error(err)
	}
}
