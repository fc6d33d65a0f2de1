package operate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/segmentio/kafka-go"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/topic"
)

// RepairConfig says how malformed records are repaired.
type RepairConfig struct {
	Filter topic.Filter // selects among the malformed ones
	Again  bool         // repair also what was sent before
	DryRun bool         // send nothing
	// Edit has somebody edit the value, and returns what they left. name is what to call it, problem why it is malformed.
	Edit func(ctx context.Context, value []byte, name, problem string) ([]byte, error)
	// Confirm is asked before a record is sent to a source topic. Its error ends the repair.
	Confirm func(ctx context.Context, letter, source string) error
	// Tell is told what became of each record as soon as it is known.
	Tell func(Repair)
}

// RepairState is what became of a malformed record.
type RepairState string

// The states. All but the first two leave the record as it is.
const (
	RepairSent          RepairState = "sent"
	RepairPlanned       RepairState = "would be sent"
	RepairSentBefore    RepairState = "sent before"
	RepairDeleted       RepairState = "deleted meanwhile"
	RepairUnknownSource RepairState = "its origin is not a source topic of the configuration"
	RepairUneditable    RepairState = "still malformed, and not text that can be edited"
	RepairUnchanged     RepairState = "not changed"
	RepairMalformed     RepairState = "still malformed"
)

// Repair is what became of one malformed record.
type Repair struct {
	Letter  string // partition/offset
	State   RepairState
	Origin  string // where the record was read, as its dead letter says
	Source  string // the topic that it belongs to
	SentAs  string // topic/partition/offset, once it was sent
	Problem string // why it is still malformed
}

// Repairer sends malformed records to their source topics, each once, repaired where they have to be, as new events with their own keys
// and headers (docs/contract.md#replay-edit). Nothing is sent that is still malformed.
type Repairer struct {
	cluster *topic.Cluster
	sources *topic.Sources
	repairs *repairs
	cfg     RepairConfig
	found   []topic.DeadLetter // in the order of their death, without their bytes
}

// NewRepairer makes a Repairer. Close it.
func NewRepairer(c *topic.Cluster, cfg RepairConfig) (*Repairer, error) {
	cfg.Filter.Reasons = []string{dispatcher.MalformedEvent.String()}
	sources, err := c.Config().NewSources(nil, nil)
	if err != nil {
		return nil, err
	}
	return &Repairer{cluster: c, sources: sources, repairs: newRepairs(c), cfg: cfg}, nil
}

// Close gives the schema registry's connections back.
func (r *Repairer) Close() { r.sources.Close() }

// Find finds the malformed records that are selected, and what was sent of them.
func (r *Repairer) Find(ctx context.Context, done *atomic.Int64, total func(int64)) (selected int, err error) {
	letters := r.cluster.DeadLetters()
	ranges, err := letters.Ranges(ctx, &r.cfg.Filter)
	if err != nil {
		return 0, err
	}
	if total != nil {
		total(topic.Total(ranges))
	}
	var mu sync.Mutex // guards found
	err = letters.Each(ctx, &r.cfg.Filter, ranges, done, func(d *topic.DeadLetter) error {
		mu.Lock()
		defer mu.Unlock()
		r.found = append(r.found, topic.DeadLetter{Partition: d.Partition, Offset: d.Offset, DeadAt: d.DeadAt, Origin: d.Origin})
		r.repairs.ask(d)
		return nil
	})
	slices.SortFunc(r.found, func(x, y topic.DeadLetter) int { return x.DeadAt.Compare(y.DeadAt) })
	if err == nil && !r.cfg.Again {
		err = r.repairs.look(ctx, done, total)
	}
	return len(r.found), err
}

// Run repairs what was found, one after the other.
func (r *Repairer) Run(ctx context.Context) error {
	for i := range r.found {
		done, err := r.next(ctx, &r.found[i])
		if err != nil {
			return fmt.Errorf("dead letter %s: %w", r.found[i].Position(), err)
		}
		r.cfg.Tell(done)
	}
	return nil
}

// next repairs one of the records that were found. Another operator may have done so while the one before was edited.
func (r *Repairer) next(ctx context.Context, found *topic.DeadLetter) (Repair, error) {
	one := Repair{Letter: found.Position(), Origin: found.Origin}
	if !r.cfg.Again {
		if err := r.repairs.look(ctx, nil, nil); err != nil {
			return one, err
		}
		if r.repairs.repaired(found) {
			one.State = RepairSentBefore
			return one, nil
		}
	}
	d, err := r.cluster.DeadLetters().Get(ctx, found.Partition, found.Offset)
	if err != nil {
		return one, err
	}
	if d == nil || d.Identity() != found.Identity() {
		one.State = RepairDeleted
		return one, nil
	}
	origin, err := topic.ParseOrigin(d.Origin)
	if known := err == nil && r.sources.Has(origin.Topic); !known {
		one.State = RepairUnknownSource
		return one, nil
	}
	one.Source = origin.Topic
	value, err := r.repair(ctx, d, &one)
	if err != nil || one.State != "" {
		return one, err
	}
	return one, r.send(ctx, d, value, &one)
}

// repair is the record's value once it is right. Where it does not become right, the repair's state says why.
func (r *Repairer) repair(ctx context.Context, d *topic.DeadLetter, one *Repair) ([]byte, error) {
	value, problem := d.Value, d.Detail
	// It may be right by now: its schema has been registered, or its mapping corrected.
	err := r.decode(ctx, one.Source, value)
	if errors.Is(err, topic.ErrRegistryUnavailable) {
		return nil, err
	}
	if err == nil && d.Truncated {
		err = errors.New("only its beginning was kept: it was too large")
	}
	if err == nil {
		return value, nil
	}
	if r.sources.SchemaEncoded(one.Source) {
		one.State, one.Problem = RepairUneditable, err.Error()
		return nil, nil
	}
	name := fmt.Sprintf("%s-%s", strings.ReplaceAll(d.Position(), "/", "-"), one.Source)
	for {
		edited, err := r.cfg.Edit(ctx, value, name, problem)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(edited, d.Value) || len(bytes.TrimSpace(edited)) == 0 {
			one.State = RepairUnchanged
			return nil, nil
		}
		err = r.decode(ctx, one.Source, edited)
		if err == nil || errors.Is(err, event.ErrIgnored) {
			return edited, nil
		}
		if bytes.Equal(edited, value) {
			one.State, one.Problem = RepairMalformed, err.Error()
			return nil, nil
		}
		value, problem = edited, err.Error()
	}
}

// decode says why a value is not an event of the source topic, if it is not.
func (r *Repairer) decode(ctx context.Context, source string, value []byte) error {
	_, err := r.sources.Decode(ctx, &topic.Record{Partition: topic.Partition{Topic: source}, Value: value})
	return err
}

// send sends a record that is right to its source topic.
func (r *Repairer) send(ctx context.Context, d *topic.DeadLetter, value []byte, one *Repair) error {
	if r.cfg.DryRun {
		one.State = RepairPlanned
		return nil
	}
	if err := r.cfg.Confirm(ctx, one.Letter, one.Source); err != nil {
		return err
	}
	at, err := r.cluster.Send(ctx, one.Source, d.Key, value, repairedHeaders(d))
	if err != nil {
		return err
	}
	one.State, one.SentAs = RepairSent, at.String()
	return nil
}

// repairedHeaders are those of the record as its producer wrote it, and the name of the dead letter, by which it is known to have been sent
// (docs/contract.md#replay-edit).
func repairedHeaders(d *topic.DeadLetter) []kafka.Header {
	headers := []kafka.Header{{Key: topic.HeaderDeadLetter, Value: []byte(d.Position())}}
	for name, value := range d.Headers {
		if name != topic.HeaderDeadLetter { // it was repaired before, and became malformed again
			headers = append(headers, kafka.Header{Key: name, Value: value})
		}
	}
	return headers
}
