package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/segmentio/kafka-go"

	"fanout/config"
	"fanout/consumer"
	"fanout/consumer/registry"
	"fanout/dispatcher"
	"fanout/event"
)

// mend opens each malformed record in an editor, as kubectl edit does, and sends what was mended to its source topic as
// a new event, with its own key and headers. Nothing is sent that is still malformed.
func (a *app) mend(ctx context.Context, cfg *config.Config, admin *consumer.Admin, filter *consumer.Filter, f *replayFlags) error {
	filter.Reasons = []string{dispatcher.MalformedEvent.String()}
	found, err := a.selectedLetters(ctx, admin, filter)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		fmt.Fprintln(a.stdout, "no malformed record is selected")
		return nil
	}
	decoders, err := consumer.NewDecoders(consumerConfig(cfg))
	if err != nil {
		return err
	}
	defer decoders.Close()
	sent, left := 0, 0
	for _, d := range found {
		ok, err := a.mendOne(ctx, admin, decoders, d, f)
		if err != nil {
			return fmt.Errorf("dead letter %s: %w (%d sent before)", d.Position(), err, sent)
		}
		if ok {
			sent++
		} else {
			left++
		}
	}
	fmt.Fprintf(a.stdout, "%d mended and sent, %d left as they are\n", sent, left)
	return nil
}

func (a *app) mendOne(ctx context.Context, admin *consumer.Admin, decoders *consumer.Decoders, d *consumer.DeadLetter, f *replayFlags) (bool, error) {
	origin, err := consumer.ParseOrigin(d.Origin)
	if known := err == nil && decoders.Source(origin.Topic); !known {
		fmt.Fprintf(a.stdout, "%s: its origin %q is no source topic of the configuration; left\n", d.Position(), d.Origin)
		return false, nil
	}
	value, problem := d.Value, d.Detail
	// It may be right by now: its schema has been registered, or its mapping mended.
	_, _, err = decoders.Decode(ctx, &consumer.Message{Topic: origin.Topic, Value: value})
	if errors.Is(err, registry.ErrUnavailable) {
		return false, err
	}
	if err == nil && d.Truncated {
		err = errors.New("the broker took its beginning only")
	}
	right := err == nil
	if !right && decoders.Framed(origin.Topic) {
		fmt.Fprintf(a.stdout, "%s: still malformed (%s), and no text to edit; left\n", d.Position(), printable(err.Error()))
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
		_, _, err = decoders.Decode(ctx, &consumer.Message{Topic: origin.Topic, Value: edited})
		if err == nil || errors.Is(err, event.ErrIgnored) {
			value = edited
			break
		}
		if bytes.Equal(edited, value) {
			fmt.Fprintf(a.stdout, "%s: still malformed (%s); left\n", d.Position(), printable(err.Error()))
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
	editor := "vi"
	for _, pair := range a.env {
		if v, ok := strings.CutPrefix(pair, "EDITOR="); ok && v != "" {
			editor = v
		}
	}
	fmt.Fprintf(a.stderr, "%s: %s\n", name, printable(problem))
	// As git and kubectl do it: the editor may be a command with arguments.
	cmd := exec.CommandContext(ctx, "sh", "-c", editor+` "$1"`, "fanout", file.Name()) //nolint:gosec // the operator's own editor
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, a.stderr, a.stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("editor %s: %w", editor, err)
	}
	return os.ReadFile(file.Name())
}
