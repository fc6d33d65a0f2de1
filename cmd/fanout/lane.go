package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"fanout/operate"
)

// lanes asks an instance for its lanes. A subscription without one has nothing under way there, and nothing to remember.
func (r remote) lanes(ctx context.Context) ([]operate.Lane, error) {
	var answer struct {
		Lanes []operate.Lane `json:"lanes"`
	}
	err := r.read(ctx, "/api/v1/lanes", &answer)
	return answer.Lanes, err
}

// laneWords is the lane in one line.
func laneWords(l *operate.Lane, now time.Time) string {
	text := fmt.Sprintf("%s, %d in flight of at most %d, %d queued", l.Condition(now), l.InFlight, l.Limit, l.Queued)
	if l.Until != nil && l.Until.After(now) {
		text = strings.Replace(text, ",", " until "+l.Until.Local().Format("15:04:05")+",", 1)
	}
	if why := l.Reason(now); why != "" {
		text += "; " + why
	}
	return text
}
