//go:build !nodemo

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"fanout/config"
)

// demoHeading is how each file begins that the demo has written.
const demoHeading = "# Written by `fanout demo`, which removes it when it ends: the configuration of the demo that is running.\n"

// demoFile is the configuration that reaches the demo, in a file that only its owner can read.
type demoFile struct {
	name string // absolute
	text []byte
}

// writeDemoFile writes the file. An empty name is a new one in the temporary folder. A file that something else than a demo
// has written is left alone, which is an error.
func writeDemoFile(name string, cfg *config.Config) (*demoFile, error) {
	text, err := cfg.Changes()
	if err != nil {
		return nil, err
	}
	file, err := createDemoFile(name)
	if errors.Is(err, fs.ErrExist) {
		return nil, hint(fmt.Errorf("--config-file %s: the file exists, and no demo has written it", name), "name another file")
	}
	if err != nil {
		return nil, fmt.Errorf("--config-file: %w", err)
	}
	f := &demoFile{name: file.Name(), text: append([]byte(demoHeading), text...)}
	_, err = file.Write(f.text)
	if err = errors.Join(err, file.Close()); err != nil {
		_ = os.Remove(f.name)
		return nil, fmt.Errorf("--config-file: %w", err)
	}
	if absolute, err := filepath.Abs(f.name); err == nil {
		f.name = absolute
	}
	return f, nil
}

// remove removes the file, unless it is another one by now.
func (f *demoFile) remove() {
	if now, err := os.ReadFile(f.name); err == nil && bytes.Equal(now, f.text) {
		_ = os.Remove(f.name)
	}
}

func createDemoFile(name string) (*os.File, error) {
	if name == "" {
		return os.CreateTemp("", "fanout-demo-*.yaml") // mode 0600
	}
	if before, err := os.ReadFile(name); err == nil && bytes.HasPrefix(before, []byte(demoHeading)) {
		_ = os.Remove(name) // a demo was killed before it could
	}
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// overriding are the environment variables that would lead a command elsewhere than to the demo, though FANOUT_CONFIG
// names its file: a variable comes before the file.
func overriding(env []string, cfg *config.Config) (names []string) {
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		switch {
		case !strings.HasPrefix(name, "FANOUT_"), value == "", name == config.FileVariable:
		case name == "FANOUT_ADMIN_TOKEN": // the file has the same
		case name == "FANOUT_ADMIN_LISTEN" && value == cfg.Admin.Listen:
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
