package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"fanout/config"
	"fanout/topic"
)

// deadletterExport writes dead letters to a file.
type deadletterExport struct {
	*settings
	*output
}

func (c *deadletterExport) command() *cobra.Command {
	var s selection
	var file string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write dead letters whole, one JSON object a line",
		Long: `export writes the selected dead letters with key and value (base64), one JSON
object a line, by partition and offset. fanout deadletter replay --from-file
replays what such a file lists; lines may be taken out of it before.`,
		Example: `  fanout deadletter export --account acme --file acme.ndjson
  fanout deadletter replay --from-file acme.ndjson --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := s.filter(c.catalogue(cmd), time.Now())
			if err != nil {
				return err
			}
			return c.withKafka(cmd, func(ctx context.Context, _ *config.Config, admin *topic.Cluster) error {
				return c.export(ctx, admin, &filter, file)
			})
		},
	}
	s.flags(cmd.Flags())
	cmd.Flags().StringVar(&file, "file", "-", "where to; - is standard output")
	return configured(cmd)
}

func (c *deadletterExport) export(ctx context.Context, admin *topic.Cluster, filter *topic.Filter, name string) (err error) {
	out := c.stdout
	if name != "-" {
		file, opened := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if opened != nil {
			return hint(opened, "export does not write over a file")
		}
		defer func() {
			if err = errors.Join(err, file.Close()); err != nil {
				_ = os.Remove(name) // half an export looks like a whole one
			}
		}()
		out = file
	}
	letters := admin.DeadLetters()
	ranges, err := letters.Ranges(ctx, filter)
	if err != nil {
		return err
	}
	done, total, end := c.progress("reading dead letters")
	total(topic.Total(ranges))
	n := 0
	list := newLister(out, true)
	for _, partition := range slices.Sorted(maps.Keys(ranges)) { // one after the other, so that the order is that of the topic
		one := map[int]topic.Range{partition: ranges[partition]}
		if err = letters.Each(ctx, filter, one, done, func(d *topic.DeadLetter) error {
			n++
			return list.add(d)
		}); err != nil {
			break
		}
	}
	end()
	if err == nil {
		err = list.end()
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stderr, "%s written\n", count(n, "dead letter"))
	return nil
}
