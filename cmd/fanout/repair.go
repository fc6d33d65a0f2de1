package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"github.com/segmentio/kafka-go"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/dispatcher"
	"fanout/event"
	"fanout/operate"
	"fanout/topic"
)

// repairer sends malformed records to their source topics, each once.
type repairer struct {
	a       *app
	admin   *topic.Cluster
	sources *topic.Sources
	repairs *operate.Repairs
	f       *replayFlags

	sent, left, before int
}

// repair opens each malformed record in an editor, as kubectl edit does, and sends what was repaired to its source topic
// as a new event, with its own key and headers. Nothing is sent that is still malformed, or was sent before.
func (a *app) repair(ctx context.Context, cfg *config.Config, admin *topic.Cluster, filter *topic.Filter, f *replayFlags) error {
	filter.Reasons = []string{dispatcher.MalformedEvent.String()}
	sources, err := newSources(cfg)
	if err != nil {
		return err
	}
	defer sources.Close()
	r := &repairer{a: a, admin: admin, sources: sources, repairs: operate.NewRepairs(admin), f: f}
	found, err := r.find(ctx, filter)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		fmt.Fprintln(a.stdout, "the flags select no malformed record")
		return nil
	}
	for i := range found {
		if err := r.next(ctx, &found[i]); err != nil {
			return fmt.Errorf("dead letter %s: %w (%d sent before)", found[i].Position(), err, r.sent)
		}
	}
	again := ""
	if r.before > 0 {
		again = fmt.Sprintf(", %d sent before (--again sends them again)", r.before)
	}
	fmt.Fprintf(a.stdout, "%d repaired and sent, %d left as they are%s\n", r.sent, r.left, again)
	return nil
}

// find finds the malformed records that the filter selects, in the order of their death and without their bytes, and what was sent of them.
func (r *repairer) find(ctx context.Context, filter *topic.Filter) (found []topic.DeadLetter, err error) {
	letters := r.admin.DeadLetters()
	ranges, err := letters.Ranges(ctx, filter)
	if err != nil {
		return nil, err
	}
	done, total, end := r.a.progress("looking for malformed records")
	defer end()
	total(topic.Total(ranges))
	var mu sync.Mutex // guards found
	err = letters.Each(ctx, filter, ranges, done, func(d *topic.DeadLetter) error {
		mu.Lock()
		defer mu.Unlock()
		found = append(found, topic.DeadLetter{Partition: d.Partition, Offset: d.Offset, DeadAt: d.DeadAt, Origin: d.Origin})
		r.repairs.Ask(d)
		return nil
	})
	slices.SortFunc(found, func(x, y topic.DeadLetter) int { return x.DeadAt.Compare(y.DeadAt) })
	if err != nil || r.f.again {
		return found, err
	}
	return found, r.repairs.Look(ctx, done, total)
}

// next repairs one of the records that were found. Another operator may have done so while the one before was edited.
func (r *repairer) next(ctx context.Context, found *topic.DeadLetter) error {
	if !r.f.again {
		if err := r.repairs.Look(ctx, nil, nil); err != nil {
			return err
		}
		if r.repairs.Sent(found) {
			r.before++
			return nil
		}
	}
	d, err := r.admin.DeadLetters().Get(ctx, found.Partition, found.Offset)
	if err != nil {
		return err
	}
	if d == nil || d.Identity() != found.Identity() {
		fmt.Fprintf(r.a.stdout, "%s: deleted meanwhile\n", found.Position())
		r.left++
		return nil
	}
	ok, err := r.repair(ctx, d)
	switch {
	case err != nil:
		return err
	case ok:
		r.sent++
	default:
		r.left++
	}
	return nil
}

// repair sends a record to its source topic, repaired where it has to be; false where it is left as it is.
func (r *repairer) repair(ctx context.Context, d *topic.DeadLetter) (bool, error) {
	a, sources := r.a, r.sources
	origin, err := topic.ParseOrigin(d.Origin)
	if known := err == nil && sources.Has(origin.Topic); !known {
		fmt.Fprintf(a.stdout, "%s: its origin %s is not a source topic of the configuration; left\n", d.Position(), orDash(terminal.Visible(d.Origin)))
		return false, nil
	}
	value, problem := d.Value, d.Detail
	// It may be right by now: its schema has been registered, or its mapping corrected.
	_, err = sources.Decode(ctx, &topic.Record{Partition: topic.Partition{Topic: origin.Topic}, Value: value})
	if errors.Is(err, topic.ErrRegistryUnavailable) {
		return false, err
	}
	if err == nil && d.Truncated {
		err = errors.New("only its beginning was kept: it was too large")
	}
	right := err == nil
	if !right && sources.SchemaEncoded(origin.Topic) {
		fmt.Fprintf(a.stdout, "%s: still malformed (%s), and not text that can be edited; left\n", d.Position(), terminal.Visible(err.Error()))
		return false, nil
	}
	for !right {
		edited, err := a.edit(ctx, value, fmt.Sprintf("%s-%s", strings.ReplaceAll(d.Position(), "/", "-"), origin.Topic), problem)
		if err != nil {
			return false, err
		}
		if bytes.Equal(edited, d.Value) || len(bytes.TrimSpace(edited)) == 0 {
			fmt.Fprintf(a.stdout, "%s: not changed; left\n", d.Position())
			return false, nil
		}
		_, err = sources.Decode(ctx, &topic.Record{Partition: topic.Partition{Topic: origin.Topic}, Value: edited})
		if err == nil || errors.Is(err, event.ErrIgnored) {
			value = edited
			break
		}
		if bytes.Equal(edited, value) {
			fmt.Fprintf(a.stdout, "%s: still malformed (%s); left\n", d.Position(), terminal.Visible(err.Error()))
			return false, nil
		}
		value, problem = edited, err.Error()
	}
	if r.f.dryRun {
		fmt.Fprintf(a.stdout, "%s: would be sent to %s\n", d.Position(), origin.Topic)
		return true, nil
	}
	if err := a.confirm(ctx, r.f.yes, fmt.Sprintf("send %s to %s?", d.Position(), origin.Topic)); err != nil {
		return false, err
	}
	at, err := r.admin.Send(ctx, origin.Topic, d.Key, value, repairedHeaders(d))
	if err != nil {
		return false, err
	}
	fmt.Fprintf(a.stdout, "%s: sent as %s\n", d.Position(), at)
	return true, nil
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

// edit opens value in the editor, and returns what is left of it.
func (a *app) edit(ctx context.Context, value []byte, name, problem string) ([]byte, error) {
	file, err := os.CreateTemp("", "fanout-"+name+"-*.json")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(value)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	editor := cmp.Or(a.variable("EDITOR"), "vi")
	fmt.Fprintf(a.stderr, "%s: %s\n", name, terminal.Visible(problem))
	// As git and kubectl do it: the editor may be a command with arguments.
	cmd := exec.CommandContext(ctx, "sh", "-c", editor+` "$1"`, "fanout", file.Name()) //nolint:gosec // the operator's own editor
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, a.stderr, a.stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("editor %s: %w", editor, err)
	}
	return os.ReadFile(file.Name())
}
