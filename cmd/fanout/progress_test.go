package main

import (
	"strings"
	"testing"

	"github.com/schollz/progressbar/v3"

	"fanout/cmd/internal/terminal"
)

// A progress bar stays on its line, however narrow the terminal and however much there is to do.
func TestProgressFits(t *testing.T) {
	t.Parallel()
	for _, width := range []int{40, 60, 80, 200} {
		for _, total := range []int64{7, 12_345_678} {
			var out writer
			options := append(barOptions(&out, "reading dead letters", width), progressbar.OptionThrottle(0))
			bar := progressbar.NewOptions64(total, options...)
			for _, done := range []int64{1, total / 2, total - 1} {
				if err := bar.Set64(done); err != nil {
					t.Fatal(err)
				}
			}
			for line := range strings.SplitSeq(out.String(), "\r") {
				if terminal.Width(line) > width {
					t.Errorf("%d cells in %d: %q", terminal.Width(line), width, line)
				}
			}
			if !strings.Contains(out.String(), "%") {
				t.Errorf("nothing is shown: %q", out.String())
			}
		}
	}
}
