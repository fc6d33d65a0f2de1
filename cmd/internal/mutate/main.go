// Command mutate shows that the tests see a delivery being lost. It applies small mutations of the paths on which one could be, each
// with a name, one at a time, and runs the tests that should fail then. It says which mutations are not killed; the exit status is 1
// where there is one.
//
// A mutation is a file of testdata/mutations, in the format of txtar: what it would do in words, then `file:` and `test:` lines, then
// pairs of `old` and `new`. The checkout stays as it is: the go command is given the changed file as an overlay.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has run
	}
}

// run tries the mutations that the arguments select.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("mutate", flag.ContinueOnError)
	only := flags.String("run", "", "mutations whose name matches the regular expression; all by default")
	if err := flags.Parse(args); err != nil {
		return err
	}
	names, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	all, err := Load(".")
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(m *Mutation) bool { return !names.MatchString(m.Name) })
	if len(all) == 0 {
		return fmt.Errorf("no mutation has a name like %s", *only)
	}
	if err := checkTests(ctx, all); err != nil {
		return err
	}
	var survivors []string
	for _, m := range all {
		begun := time.Now()
		by, err := m.Try(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			by = err.Error()
			survivors = append(survivors, m.Name)
		case by == "":
			by = "NOT KILLED: " + m.Does
			survivors = append(survivors, m.Name)
		}
		fmt.Fprintf(out, "%-32s %-60s %5.1f s\n", m.Name, by, time.Since(begun).Seconds())
	}
	fmt.Fprintf(out, "%d of %d mutations were killed\n", len(all)-len(survivors), len(all))
	if len(survivors) > 0 {
		return fmt.Errorf("not killed: %s", strings.Join(survivors, ", "))
	}
	return nil
}

// checkTests runs the tests on the code as it is: one that fails anyway kills nothing.
func checkTests(ctx context.Context, all []*Mutation) error {
	tests := make(map[string][]string)
	for _, m := range all {
		tests[m.Package] = append(tests[m.Package], m.Tests...)
	}
	for _, pkg := range slices.Sorted(func(yield func(string) bool) {
		for pkg := range tests {
			if !yield(pkg) {
				return
			}
		}
	}) {
		names := slices.Compact(slices.Sorted(slices.Values(tests[pkg])))
		if output, err := goTest(ctx, "", pkg, names); err != nil {
			return fmt.Errorf("%s fails without a mutation:\n%s", pkg, output)
		}
	}
	return nil
}
