package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fanout/config"
	"fanout/consumer"
	"fanout/consumer/registry"
	"fanout/event"
)

// rawEvent is the documented shape of a raw event (DESIGN.md section 2).
type rawEvent struct {
	Account        string `json:"accountId"`
	Channel        string `json:"channel"`
	Type           string `json:"type"`
	TrackingID     string `json:"trackingId"`
	NotificationID string `json:"notificationId"`
	UserID         string `json:"userId"`
	ID             string `json:"id,omitempty"`
	OccurredAt     string `json:"occurredAt,omitempty"`
}

// sendFlags are what send is told.
type sendFlags struct {
	event      rawEvent
	name       string
	topic, key string
	count      int
	lines      bool
}

func (a *app) sendCommand() *cobra.Command {
	var f sendFlags
	cmd := &cobra.Command{
		Use:   "send [FILE]",
		Short: "Produce a raw event",
		Long: "send produces a raw event, made of the flags, or read from a file (- for standard input) byte for byte; with\n" +
			"--lines each line of the file is an event. It says where the record landed, and warns of what fanout would not deliver.",
		Example: "  fanout send --account acme --event EMAIL_OPEN\n  fanout send --topic bounces bounce.json\n  jq -c '.[]' events.json | fanout send --topic channel.email --lines -",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd.Flags().Changed, len(args) > 0); err != nil {
				return &exitError{code: 2, err: err}
			}
			values, err := a.sendValues(&f, args)
			if err != nil {
				return err
			}
			return a.withKafka(cmd, func(ctx context.Context, cfg *config.Config, admin *consumer.Admin) error {
				return a.send(ctx, cfg, admin, &f, values)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.event.Account, "account", "", "accountId")
	flags.StringVar(&f.name, "event", "", "event name such as EMAIL_OPEN, instead of --channel and --type")
	flags.StringVar(&f.event.Channel, "channel", "", "channel such as EMAIL")
	flags.StringVar(&f.event.Type, "type", "", "type such as OPEN")
	flags.StringVar(&f.event.TrackingID, "tracking-id", "", "trackingId (default a random one)")
	flags.StringVar(&f.event.NotificationID, "notification-id", "test", "notificationId")
	flags.StringVar(&f.event.UserID, "user-id", "test-user", "userId")
	flags.StringVar(&f.event.ID, "id", "", "the producer's own event id")
	flags.StringVar(&f.event.OccurredAt, "occurred-at", "", "occurredAt, RFC 3339")
	flags.StringVar(&f.topic, "topic", "", "topic (default that of the channel, as in channel.email)")
	flags.StringVar(&f.key, "key", "", "record key (default the account)")
	flags.IntVar(&f.count, "count", 1, "how many events, each with a trackingId of its own unless one is given")
	flags.BoolVar(&f.lines, "lines", false, "each line of the file is an event")
	return configured(cmd)
}

// check looks for flags that say nothing together.
func (f *sendFlags) check(given func(flag string) bool, file bool) error {
	if file {
		for _, flag := range []string{"account", "event", "channel", "type", "tracking-id", "notification-id", "user-id", "id", "occurred-at", "count"} {
			if given(flag) {
				return fmt.Errorf("--%s is of an event that is made of flags: a file is sent as it is", flag)
			}
		}
		if f.topic == "" {
			return hint(errors.New("no topic"), "give --topic: what is in a file is not looked at")
		}
		return nil
	}
	_, known := event.ParseName(f.name)
	switch {
	case f.lines:
		return errors.New("--lines needs a FILE, or - for standard input")
	case f.count < 1:
		return errors.New("--count is at least 1")
	case f.name != "" && !known:
		return hint(fmt.Errorf("--event %s: unknown event name", f.name), "want one of %v", event.Names())
	case f.name != "" && (f.event.Channel != "" || f.event.Type != ""):
		return errors.New("give --event, or --channel and --type")
	case f.event.Account == "" || f.name == "" && (f.event.Channel == "" || f.event.Type == ""):
		return hint(errors.New("too little is known of the event"), "give --account and --event, or a file")
	}
	return nil
}

// sendValues are the values of the records to produce.
func (a *app) sendValues(f *sendFlags, args []string) ([][]byte, error) {
	if len(args) > 0 {
		data, err := a.readFile(args[0])
		if err != nil {
			return nil, err
		}
		if !f.lines {
			return [][]byte{data}, nil
		}
		var values [][]byte
		for line := range bytes.Lines(data) {
			if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 {
				values = append(values, line)
			}
		}
		return values, nil
	}
	if name, ok := event.ParseName(f.name); ok {
		f.event.Channel, f.event.Type = name.Channel(), name.RawType()
	}
	f.topic = cmp.Or(f.topic, "channel."+strings.ToLower(f.event.Channel))
	f.key = cmp.Or(f.key, f.event.Account)
	values := make([][]byte, f.count)
	for i := range values {
		e := f.event
		e.TrackingID = cmp.Or(e.TrackingID, "test-"+strings.ToLower(rand.Text()[:12]))
		e.OccurredAt = cmp.Or(e.OccurredAt, time.Now().UTC().Format(time.RFC3339Nano))
		value, err := json.Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("make the event: %w", err)
		}
		values[i] = value
	}
	return values, nil
}

// sendPatience is how long one record may take.
const sendPatience = 15 * time.Second

// sent is where a record landed.
type sent struct {
	Record string `json:"record"` // topic/partition/offset
	Note   string `json:"note,omitempty"`
}

func (a *app) send(ctx context.Context, cfg *config.Config, admin *consumer.Admin, f *sendFlags, values [][]byte) error {
	decoders, err := consumer.NewDecoders(consumerConfig(cfg))
	if err != nil {
		return err
	}
	defer decoders.Close()
	var key []byte
	if f.key != "" {
		key = []byte(f.key)
	}
	for _, value := range values {
		soon, cancel := context.WithTimeout(ctx, sendPatience)
		origin, err := admin.Send(soon, f.topic, key, value, nil)
		cancel()
		if err != nil {
			return err
		}
		result := sent{Record: origin.String()}
		if !decoders.Source(f.topic) {
			result.Note = "fanout does not read this topic: it is not among the sources"
		} else if _, _, err := decoders.Decode(ctx, &consumer.Message{Topic: f.topic, Value: value}); errors.Is(err, registry.ErrUnavailable) {
			result.Note = "whether fanout delivers this is not known: " + err.Error()
		} else if err != nil {
			result.Note = "fanout will not deliver this: " + err.Error()
		}
		if a.asJSON() {
			err = json.NewEncoder(a.stdout).Encode(result) // one a line
		} else {
			_, err = fmt.Fprintln(a.stdout, strings.TrimSuffix(result.Record+"  "+result.Note, "  "))
		}
		if err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
	}
	return nil
}
