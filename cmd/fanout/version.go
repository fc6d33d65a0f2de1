package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// build is what this binary was made from.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// thisBuild reads what the Go toolchain has written into the binary.
func thisBuild() build {
	b := build{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = strings.TrimPrefix(v, "v")
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Revision = setting.Value
		case "vcs.time":
			b.Time = setting.Value
		case "vcs.modified":
			b.Modified = setting.Value == "true"
		}
	}
	return b
}

// userAgent is the User-Agent header of every delivery.
func userAgent() string { return "fanout/" + thisBuild().Version }

// versionCommand says which build this is.
type versionCommand struct {
	*output
}

func (c *versionCommand) command() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show which build this is",
		Long:    "version shows the version, that of Go, the platform and the commit.",
		Example: "  fanout version\n  fanout version -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b := thisBuild()
			if c.asJSON() {
				return c.json(b)
			}
			fmt.Fprintf(c.stdout, "fanout %s (%s, %s)\n", b.Version, b.Go, b.Platform)
			if b.Revision != "" {
				fmt.Fprintf(c.stdout, "revision %s of %s\n", b.Revision, b.Time)
			}
			return nil
		},
	}
}
