package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fanout/config"
)

func (a *app) healthCommand() *cobra.Command {
	var ready bool
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a running instance whether it is well",
		Long: "health asks /healthz of an instance, or with --ready /readyz, and shows the answer. The exit status is 0 where\n" +
			"it is 200, else 1: for container health checks without a shell.",
		Example: "  fanout health\n  fanout health --ready --admin http://10.0.0.7:8080",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(cmd)
			if err != nil {
				return err
			}
			path := "/healthz"
			if ready {
				path = "/readyz"
			}
			for _, base := range a.instances(&cfg) {
				status, body, err := askAdmin(cmd.Context(), base+path, cfg.Admin.Token)
				if err != nil {
					return hint(err, "is an instance running? --admin URL or admin.listen says where")
				}
				fmt.Fprintf(a.stdout, "%s\n", strings.TrimSpace(string(body)))
				if status != http.StatusOK {
					return fmt.Errorf("%s%s: status %d", base, path, status)
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether it is ready rather than alive")
	a.adminFlag(cmd)
	return configured(cmd)
}

// adminFlag adds --admin to a command that asks running instances.
func (a *app) adminFlag(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&a.admins, "admin", nil, "URL of an instance, repeatable (default admin.listen)")
}

// instances are the base URLs of the instances to ask.
func (a *app) instances(cfg *config.Config) []string {
	if len(a.admins) == 0 {
		return []string{adminURL(cfg.Admin.Listen)}
	}
	bases := make([]string, len(a.admins))
	for i, base := range a.admins {
		if !strings.Contains(base, "://") {
			base = "http://" + base
		}
		bases[i] = strings.TrimRight(base, "/")
	}
	return bases
}

// adminURL is where a listener on that address can be asked from this machine.
func adminURL(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "http://" + listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// adminClient asks an instance. No proxy and no redirect: the token is for that address alone.
func adminClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// adminAnswer bounds what is taken of an answer: the lanes of some 100 000 subscriptions.
const adminAnswer = 32 << 20

// askAdmin makes one GET of an instance's admin listener. An answer larger than adminAnswer is an error.
func askAdmin(ctx context.Context, url, token string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, nil, fmt.Errorf("ask %s: %w", url, err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := adminClient().Do(request)
	if err != nil {
		return 0, nil, fmt.Errorf("ask an instance: %w", err)
	}
	defer answer.Body.Close()
	if body, err = io.ReadAll(io.LimitReader(answer.Body, adminAnswer+1)); err != nil {
		return 0, nil, fmt.Errorf("ask an instance: %w", err)
	}
	if len(body) > adminAnswer {
		return 0, nil, fmt.Errorf("ask an instance: %s answers with more than %d MiB", url, adminAnswer>>20)
	}
	return answer.StatusCode, body, nil
}
