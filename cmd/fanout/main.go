// Command fanout reads raw channel events from Kafka and POSTs each to the webhook subscriptions that want it.
//
// This is the one place where everything is wired. A command's exit status is 0 when it did what it was asked, 1 when
// it met a problem (a bad configuration among them), and 2 when it was called in a way it does not understand.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"fanout/config"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// run is the program: it returns the exit status. The first SIGINT or SIGTERM cancels what runs, the second one ends
// the process at once.
func run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)() // from then on a signal has its default effect

	a := &app{env: env, stdin: stdin, stdout: stdout, stderr: stderr}
	err := a.command(args).ExecuteContext(ctx) //nolint:contextcheck // a command takes it from cobra
	if err == nil {
		return 0
	}
	a.report(err)
	if coded, ok := errors.AsType[*exitError](err); ok {
		return coded.code
	}
	if !a.started {
		return 2
	}
	return 1
}

// exitError is an error with an exit status of its own. Without one inside, everything has been said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// said ends a command with status 1 after it has shown what is wrong as its result.
func said() error { return &exitError{code: 1} }

// hintError is an error with the next step to take.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// hint adds the next step to an error that is not nil and says none itself.
func hint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	if _, has := errors.AsType[*hintError](err); has {
		return err
	}
	return &hintError{err, fmt.Sprintf(format, args...)}
}

// report tells a person what went wrong, and what to do.
func (a *app) report(err error) {
	text := err.Error()
	if text == "" {
		return
	}
	if problems, ok := errors.AsType[config.Problems](err); ok {
		fmt.Fprintf(a.stderr, "fanout: the configuration has %s\n  %s\n", count(len(problems), "problem"), strings.ReplaceAll(problems.Error(), "\n", "\n  "))
		return
	}
	fmt.Fprintf(a.stderr, "fanout: %s\n", printableLines(text)) // it may quote what others wrote
	if hinted, ok := errors.AsType[*hintError](err); ok {
		fmt.Fprintf(a.stderr, "  → %s\n", printableLines(hinted.hint))
	}
	if !a.started {
		fmt.Fprintln(a.stderr, "  → fanout --help shows the commands and flags")
	}
}
