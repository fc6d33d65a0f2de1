package lab

import (
	"fmt"
	"strconv"
	"strings"
)

// Metrics is a scrape of /metrics: each series as it is written there, name{label="value",…}, and its value.
type Metrics map[string]float64

// ParseMetrics reads Prometheus' text format.
func ParseMetrics(text string) (Metrics, error) {
	m := make(Metrics)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		if at < 0 {
			return nil, fmt.Errorf("metrics: no value in %q", line)
		}
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
		m[line[:at]] = value
	}
	return m, nil
}

// Sum adds up the series of a name whose labels include all of those given, each written label="value".
func (m Metrics) Sum(name string, labels ...string) float64 {
	var sum float64
	for series, value := range m {
		own, rest, _ := strings.Cut(series, "{")
		if own == name && hasAll(rest, labels) {
			sum += value
		}
	}
	return sum
}

// hasAll looks for whole labels: result="event" is not part of a label other_result="event".
func hasAll(text string, labels []string) bool {
	text = "," + strings.TrimSuffix(text, "}") + ","
	for _, label := range labels {
		if !strings.Contains(text, ","+label+",") {
			return false
		}
	}
	return true
}
