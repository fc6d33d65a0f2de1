package subscriptions

import (
	"slices"
	"strconv"
	"time"

	"fanout/spelling"
)

// Bounds of a batch (docs/contract.md#batches).
const (
	MinBatch     = 2
	MaxBatch     = 1000
	MaxBatchWait = 5 * time.Second
)

// Batch is the wish of a subscription that wants many events in one POST.
type Batch struct {
	Max  int           // deliveries in one POST; 0: it asks for no batches
	Wait time.Duration // how long the oldest may wait for others, in whole milliseconds
}

// Batch is the subscription's wish.
func (s *Subscription) Batch() Batch {
	return Batch{Max: int(s.batchMax), Wait: time.Duration(s.batchWait) * time.Millisecond}
}

// readBatch takes {"max": 100, "wait": "1s"}. Without `wait` nothing waits for others.
func (p *parser) readBatch(raw string) {
	if kindOf(raw) != '{' {
		p.bad("batch", `want an object: {"max": 100, "wait": "1s"}`)
		return
	}
	var limit, wait string
	seen := make([]string, 0, 2)
	for name, value := range members(raw) {
		switch name {
		case "max":
			limit = value
		case "wait":
			wait = value
		default:
			p.unknownInBatch(name)
			continue
		}
		if slices.Contains(seen, name) {
			p.bad("batch."+name, "given twice")
			return
		}
		seen = append(seen, name)
	}
	n, bad := p.batchMax(limit)
	d, badWait := p.batchWait(wait)
	if bad || badWait {
		return // all of it is left out
	}
	p.sub.batchMax, p.sub.batchWait = uint16(n), uint16((d+time.Millisecond-1)/time.Millisecond)
}

func (p *parser) batchMax(raw string) (n int64, bad bool) {
	n, err := strconv.ParseInt(raw, 10, 16)
	if err != nil || n < MinBatch || n > MaxBatch {
		p.bad("batch.max", "want a whole number from %d to %d", MinBatch, MaxBatch)
		return 0, true
	}
	return n, false
}

func (p *parser) batchWait(raw string) (d time.Duration, bad bool) {
	if raw == "" || kindOf(raw) == 'n' {
		return 0, false
	}
	text, _ := unquote(raw)
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > MaxBatchWait {
		p.bad("batch.wait", `want a time from "0s" to "%s", such as "500ms"`, MaxBatchWait)
		return 0, true
	}
	return d, false
}

func (p *parser) unknownInBatch(name string) {
	if !p.reviews {
		return
	}
	text := "unknown key: it is kept, and has no effect"
	if nearest := spelling.Nearest(cut(name, maxID), []string{"max", "wait"}); nearest != "" {
		text += "; did you mean " + nearest + "?"
	}
	p.warn("batch."+shown(name, 64), "%s", text)
}
