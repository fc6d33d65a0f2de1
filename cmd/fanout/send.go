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

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/event"
	"fanout/topic"
)

// rawEvent is the documented shape of a raw event.
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

// sendCommand writes raw events.
type sendCommand struct {
	*settings
	*output
	*input
}

func (c *sendCommand) command() *cobra.Command {
	var f sendFlags
	cmd := &cobra.Command{
		Use:   "send [FILE]",
		Short: "Write a raw event to a source topic",
		Long: `send writes a raw event to a source topic: one made of the flags, or a file byte
for byte (- is standard input). With --lines, each line of the file is an event.
It prints where each record landed, and what fanout would not deliver.`,
		Example: `  fanout send --account acme --event EMAIL_OPEN
  fanout send --topic bounces bounce.json
  jq -c '.[]' events.json | fanout send --topic channel.email --lines -`,
		Args:        cobra.MaximumNArgs(1),
		Annotations: map[string]string{streams: ""},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(c.catalogue(cmd), cmd.Flags().Changed, len(args) > 0); err != nil {
				return misuse(err)
			}
			values, err := c.values(c.catalogue(cmd), &f, args)
			if err != nil {
				return err
			}
			return c.withKafka(cmd, func(ctx context.Context, cfg *config.Config, admin *topic.Cluster) error {
				return c.send(ctx, cfg, admin, &f, values)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.event.Account, "account", "", "accountId")
	flags.StringVar(&f.name, "event", "", "event name such as EMAIL_OPEN, in place of --channel and --type")
	flags.StringVar(&f.event.Channel, "channel", "", "channel such as EMAIL")
	flags.StringVar(&f.event.Type, "type", "", "type such as OPEN")
	flags.StringVar(&f.event.TrackingID, "tracking-id", "", "trackingId (default: a random one)")
	flags.StringVar(&f.event.NotificationID, "notification-id", "test", "notificationId")
	flags.StringVar(&f.event.UserID, "user-id", "test-user", "userId")
	flags.StringVar(&f.event.ID, "id", "", "the producer's own event id")
	flags.StringVar(&f.event.OccurredAt, "occurred-at", "", "occurredAt, RFC 3339")
	flags.StringVar(&f.topic, "topic", "", "topic (default: that of the channel, such as channel.email)")
	flags.StringVar(&f.key, "key", "", "record key (default: the account)")
	flags.IntVar(&f.count, "count", 1, "how many events to send, each with its own trackingId unless one is given")
	flags.BoolVar(&f.lines, "lines", false, "each line of the file is an event")
	return configured(cmd)
}

// check looks for flags that say nothing together.
func (f *sendFlags) check(c *event.Catalogue, given func(flag string) bool, file bool) error {
	if file {
		for _, flag := range []string{"account", "event", "channel", "type", "tracking-id", "notification-id", "user-id", "id", "occurred-at", "count"} {
			if given(flag) {
				return fmt.Errorf("--%s describes an event that is made of flags; a file is sent as it is", flag)
			}
		}
		if f.topic == "" {
			return hint(errors.New("which topic?"), "add --topic: fanout does not look into the file for it")
		}
		return nil
	}
	_, known := c.Parse(f.name)
	switch {
	case f.lines:
		return errors.New("--lines needs a FILE, or - for standard input")
	case f.count < 1:
		return errors.New("--count is at least 1")
	case f.name != "" && !known:
		return errors.New(unknownValue("--event", f.name, "event name", c.Texts()))
	case f.name != "" && (f.event.Channel != "" || f.event.Type != ""):
		return errors.New("give either --event, or --channel and --type")
	case f.event.Account == "" || f.name == "" && (f.event.Channel == "" || f.event.Type == ""):
		return hint(errors.New("which event?"), "give --account and --event, or a file")
	}
	return nil
}

// sendValues are the values of the records to produce.
func (c *sendCommand) values(names *event.Catalogue, f *sendFlags, args []string) ([][]byte, error) {
	if len(args) > 0 {
		data, err := c.readFile(args[0])
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
	if name, ok := names.Parse(f.name); ok {
		f.event.Channel, f.event.Type = name.Channel(), name.RawType()
	}
	f.topic = cmp.Or(f.topic, topic.DefaultTopic(f.event.Channel))
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

func (c *sendCommand) send(ctx context.Context, cfg *config.Config, admin *topic.Cluster, f *sendFlags, values [][]byte) error {
	sources, err := newSources(cfg)
	if err != nil {
		return err
	}
	defer sources.Close()
	list := c.lister()
	for _, value := range values {
		result, err := sendOne(ctx, admin, sources, f, value)
		if err == nil && c.format != "table" {
			err = list.add(result)
		} else if err == nil {
			_, err = fmt.Fprintln(c.stdout, strings.TrimSuffix(result.Record+"  "+terminal.Visible(result.Note), "  "))
		}
		if err != nil {
			return errors.Join(err, c.endList(list)) // events that were sent are listed
		}
	}
	return c.endList(list)
}

// sendOne produces one record, and says what fanout will make of it.
func sendOne(ctx context.Context, admin *topic.Cluster, sources *topic.Sources, f *sendFlags, value []byte) (sent, error) {
	var key []byte
	if f.key != "" {
		key = []byte(f.key)
	}
	soon, cancel := context.WithTimeout(ctx, sendPatience)
	defer cancel()
	origin, err := admin.Send(soon, f.topic, key, value, nil)
	if err != nil {
		return sent{}, err
	}
	result := sent{Record: origin.String()}
	if !sources.Has(f.topic) {
		result.Note = "fanout does not read this topic: it is not one of the sources"
	} else if _, err := sources.Decode(ctx, &topic.Record{Partition: topic.Partition{Topic: f.topic}, Value: value}); errors.Is(err, topic.ErrRegistryUnavailable) {
		result.Note = "it is unknown whether fanout will deliver this: " + err.Error()
	} else if err != nil {
		result.Note = "fanout will not deliver this: " + err.Error()
	}
	return result, nil
}
