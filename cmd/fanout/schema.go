package main

import (
	"strings"

	"github.com/spf13/cobra"

	"fanout/admin"
	"fanout/docs/contracts"
)

// openAPIName is the document of the admin API, beside those of package contracts.
const openAPIName = "openapi"

// schemaCommand prints the schemas of payload and events.
type schemaCommand struct {
	*settings
	*output
}

func (c *schemaCommand) command() *cobra.Command {
	names := append(contracts.Names(), openAPIName)
	cmd := &cobra.Command{
		Use:   "schema NAME",
		Short: "Print a JSON Schema, AsyncAPI or OpenAPI document",
		Long: `schema prints one of the contracts as a document, as it holds for the running
configuration: with the event names that events adds to the catalogue, and the
keys that payload adds to the request body.

NAME is one of
  ` + strings.Join(names, "\n  "),
		Example: `  fanout schema payload
  fanout schema asyncapi --config fanout.yaml`,
		ValidArgs: names,
		Args:      cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := choice("schema", args[0], "document", names); err != nil {
				return err
			}
			cfg, err := c.load(cmd)
			if err != nil {
				return err
			}
			if args[0] == openAPIName {
				_, err = c.stdout.Write(append(admin.OpenAPI(cfg.Catalogue()), '\n'))
				return err
			}
			document, err := contracts.Document(args[0], cfg.Catalogue(), cfg.Payload)
			if err != nil {
				return err
			}
			_, err = c.stdout.Write(append([]byte(strings.TrimRight(string(document), "\n")), '\n'))
			return err
		},
	}
	return configured(cmd)
}
