package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
)

// healthCommand asks instances how they are.
type healthCommand struct {
	*settings
	*output
	*fleet
}

func (c *healthCommand) command() *cobra.Command {
	var ready bool
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask running instances whether they are alive, or ready",
		Long: `health asks /healthz of each instance, or with --ready /readyz, and shows the
answers. It serves as a container's health check where there is no shell.

Exit status: 0 every instance is well, else 1.`,
		Example: `  fanout health
  fanout health --ready --admin http://10.0.0.7:8080`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.load(cmd)
			if err != nil {
				return err
			}
			remotes := c.named(&cfg)
			results := make([]healthResult, len(remotes))
			askAll(remotes, func(i int, r remote) { results[i] = askHealth(cmd.Context(), r, ready) })
			return c.showHealth(results, ready)
		},
	}
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether it is ready, rather than alive")
	cmd.Flags().StringArrayVar(&c.admins, "admin", nil, "`URL` of an instance, repeatable (default admin.listen)")
	return configured(cmd)
}

// healthResult is one instance's answer, for programs.
type healthResult struct {
	Instance string        `json:"instance"`
	OK       bool          `json:"ok"`
	Status   int           `json:"status,omitempty"` // of the HTTP answer; absent where there was none
	Detail   string        `json:"detail,omitempty"` // why it is not well, where no check says so
	Checks   []healthCheck `json:"checks,omitempty"` // with --ready
	err      error         // why there is no answer
}

type healthCheck struct {
	Name   string `json:"name"`
	Ready  bool   `json:"ready"`
	Detail string `json:"detail,omitempty"`
}

func askHealth(ctx context.Context, r remote, ready bool) healthResult {
	path := "/healthz"
	if ready {
		path = "/readyz"
	}
	out := healthResult{Instance: r.base}
	status, _, body, err := r.ask(ctx, path)
	out.Status, out.OK, out.err = status, status == http.StatusOK, err
	switch {
	case err != nil:
		out.Detail = strings.TrimPrefix(err.Error(), r.base+": ")
	case ready:
		var answer struct {
			Checks []healthCheck `json:"checks"`
		}
		if json.Unmarshal(body, &answer) != nil {
			out.OK, out.err = false, r.stranger()
			out.Detail = "the server there is not a fanout instance"
		}
		out.Checks = answer.Checks
	case !out.OK:
		out.Detail = strings.TrimSpace(string(body))
	case strings.TrimSpace(string(body)) != "ok":
		out.OK, out.err = false, r.stranger()
		out.Detail = "the server there is not a fanout instance"
	}
	return out
}

// notes is what the checks say is amiss.
func (r *healthResult) notes() string {
	var details []string
	for _, c := range r.Checks {
		if c.Detail != "" {
			details = append(details, c.Name+": "+c.Detail)
		}
	}
	return strings.Join(details, "; ")
}

func (c *healthCommand) showHealth(results []healthResult, ready bool) error {
	var failed error
	well := true
	for i := range results {
		well = well && results[i].OK
		if failed == nil {
			failed = results[i].err
		}
	}
	var err error
	if c.asJSON() {
		err = c.json(results)
	} else {
		err = c.table(healthTable(results, ready))
	}
	switch {
	case err != nil:
		return err
	case failed != nil:
		return failed
	case !well:
		return said()
	}
	return nil
}

func healthTable(results []healthResult, ready bool) *terminal.Table {
	state := map[bool]string{true: "alive", false: "not alive"}
	if ready {
		state = map[bool]string{true: "ready", false: "not ready"}
	}
	t := &terminal.Table{Columns: []terminal.Column{{Name: "INSTANCE"}, {Name: "STATE"}, {Name: "DETAIL", Wrap: true, Least: 20}}}
	for _, r := range results {
		row := []string{r.Instance, state[r.OK], r.Detail}
		if r.err != nil {
			row[1] = "unknown"
		}
		if row[2] == "" {
			row[2] = r.notes()
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}
