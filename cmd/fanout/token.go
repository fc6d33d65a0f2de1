package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"fanout/admin"
)

// tokenCommand makes admin tokens.
type tokenCommand struct {
	*output
}

func (c *tokenCommand) command() *cobra.Command {
	return &cobra.Command{
		Use:   "token",
		Short: "Make a token for admin.token",
		Long: `token makes a token for admin.token from 260 random bits: 52 letters and digits.
It is shown once and kept nowhere. Every instance needs the same one.`,
		Example: `  fanout token
  FANOUT_ADMIN_TOKEN=$(fanout token) fanout run --admin-listen 0.0.0.0:8080`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			token := admin.NewToken()
			if c.asJSON() {
				return c.json(struct {
					Token string `json:"token"`
				}{token})
			}
			_, err := fmt.Fprintln(c.stdout, token)
			return err
		},
	}
}
