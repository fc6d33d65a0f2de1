package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"fanout/config"
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

// lanes asks all instances for their lanes.
func (a *app) lanes(ctx context.Context, cfg *config.Config) []operate.InstanceLanes {
	remotes := a.remotes(ctx, cfg)
	answers := make([]operate.InstanceLanes, len(remotes))
	askAll(remotes, func(i int, r remote) {
		lanes, err := r.lanes(ctx)
		answers[i] = operate.InstanceLanes{Instance: r.base, Lanes: lanes, Err: err}
	})
	return answers
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
