package main

import (
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
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

// The bounds are those of tables of the sign test: of 7 values the least and the greatest, of 9 the second ones, of 20 the sixth.
func TestInterval(t *testing.T) {
	for n, cut := range map[int]int{1: 0, 5: 0, 6: 0, 7: 0, 8: 0, 9: 1, 11: 1, 12: 2, 20: 5} {
		values := make([]float64, n)
		for i := range values {
			values[i] = float64((i * 7) % n) // in no order, where 7 is not a factor of n
		}
		if n == 7 {
			values = []float64{3, 1, 0, 6, 2, 5, 4}
		}
		if low, high := interval(values); low != float64(cut) || high != float64(n-1-cut) {
			t.Errorf("of %d: %v to %v, want %d to %d", n, low, high, cut, n-1-cut)
		}
	}
	if low, high := interval(nil); low != 0 || high != 0 {
		t.Errorf("of none: %v to %v", low, high)
	}
}

func TestSummary(t *testing.T) {
	of := func(pace float64, micros int) figure {
		return figure{pace: pace, cpu: time.Duration(micros) * time.Microsecond}
	}
	turn := round{yardsticks: yardsticks{bare: of(100_000, 8), plain: of(50_000, 20)}}
	turn.runs = []ran{{figure: of(60_000, 16), peak: 50 << 20, first: time.Second, broker: 7 * time.Microsecond}, {figure: of(30_000, 24)}}
	got := strings.Split(summary("attempts", []variant{{name: "off"}, {name: "on"}}, []round{turn}), "\n")
	for i, want := range []string{
		"medians of attempts pace CPU peak first broker of plain of bare of off",
		"off 60000/s 16.0 µs 50 MiB 1.0 s 7.0 µs 1.20 0.80 0.60 2.00 1.00 1.00",
		"on 30000/s 24.0 µs 0 MiB 0.0 s 0.0 µs 0.60 1.20 0.30 3.00 0.50 1.50",
	} {
		if line := strings.Join(strings.Fields(got[i]), " "); line != want {
			t.Errorf("line %d is %q, want %q", i+1, line, want)
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

// Each part that the pages name is there, and takes the flags that they show. What it measures takes minutes, so that no
// test runs it whole.
func TestPagesNameParts(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob(filepath.Join("..", "..", "..", "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, page := range append(pages, filepath.Join("..", "..", "..", "README.md")) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile("`(?:go -C cmd/proof run [.]/)?bench ([^`]+)`").FindAllSubmatch(text, -1) {
			named++
			words := strings.Fields(string(found[1]))
			if words[0] == "help" {
				continue
			}
			if err := run(t.Context(), append(words, "-h"), io.Discard); !errors.Is(err, flag.ErrHelp) {
				t.Errorf("%s: bench %s: %v", page, found[1], err)
			}
		}
	}
	if named < 20 {
		t.Errorf("only %d commands were found", named)
	}
}
