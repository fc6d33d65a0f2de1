package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/segmentio/kafka-go"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/dispatcher"
	"fanout/event"
	"fanout/topic"
)

// repair opens each malformed record in an editor, as kubectl edit does, and sends what was repaired to its source topic
// as a new event, with its own key and headers. Nothing is sent that is still malformed.
func (a *app) repair(ctx context.Context, cfg *config.Config, admin *topic.Cluster, filter *topic.Filter, f *replayFlags) error {
	filter.Reasons = []string{dispatcher.MalformedEvent.String()}
	found, err := a.selectedLetters(ctx, admin, filter)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		fmt.Fprintln(a.stdout, "the flags select no malformed record")
		return nil
	}
	sources, err := newSources(cfg)
	if err != nil {
		return err
	}
	defer sources.Close()
	sent, left := 0, 0
	for _, d := range found {
		ok, err := a.repairOne(ctx, admin, sources, d, f)
		if err != nil {
			return fmt.Errorf("dead letter %s: %w (%d sent before)", d.Position(), err, sent)
		}
		if ok {
			sent++
		} else {
			left++
		}
	}
	fmt.Fprintf(a.stdout, "%d repaired and sent, %d left as they are\n", sent, left)
	return nil
}

func (a *app) repairOne(ctx context.Context, admin *topic.Cluster, sources *topic.Sources, d *topic.DeadLetter, f *replayFlags) (bool, error) {
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
	if f.dryRun {
		fmt.Fprintf(a.stdout, "%s: would be sent to %s\n", d.Position(), origin.Topic)
		return true, nil
	}
	if err := a.confirm(ctx, f.yes, fmt.Sprintf("send %s to %s?", d.Position(), origin.Topic)); err != nil {
		return false, err
	}
	var headers []kafka.Header
	for name, v := range d.Headers {
		headers = append(headers, kafka.Header{Key: name, Value: v})
	}
	at, err := admin.Send(ctx, origin.Topic, d.Key, value, headers)
	if err != nil {
		return false, err
	}
	fmt.Fprintf(a.stdout, "%s: sent as %s\n", d.Position(), at)
	return true, nil
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
