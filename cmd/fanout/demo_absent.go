//go:build nodemo

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// demoCommand runs fanout with all that is around it.
type demoCommand struct {
	*settings
	*output
}

// demoCommand says where the demo is: images are built without its Kafka and Redis, which no production needs.
func (c *demoCommand) command() *cobra.Command {
	return &cobra.Command{
		Use:    "demo",
		Short:  "See fanout work, with a Kafka and a Redis inside (not in this build)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return hint(errors.New("this build of fanout has no demo"), "with Go and the source: go run ./cmd/fanout demo")
		},
	}
}
