// Command fanout reads raw channel events from Kafka and POSTs each to the webhook subscriptions that want it.
//
// This is the one place where everything is wired. A command's exit status is 0 when it did what it was asked, 1 when
// it met a problem (a bad configuration among them), and 2 when it was called in a way it does not understand.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// run is the program: it returns the exit status.
func run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return (&app{env: env, stdin: stdin, stdout: stdout, stderr: stderr}).execute(ctx, args)
}

// execute obeys a command line, and returns the exit status. The first SIGINT or SIGTERM cancels what runs, the second one
// ends the process at once.
func (a *app) execute(ctx context.Context, args []string) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)() // from then on a signal has its default effect

	cmd, err := a.command(args).ExecuteContextC(ctx) //nolint:contextcheck // a command takes it from cobra
	if err == nil {
		return exitDone
	}
	code := exitProblem
	if coded, ok := errors.AsType[*exitError](err); ok {
		code = coded.code
	} else if !a.started {
		code = exitMisuse
	}
	a.report(err, code, cmd.CommandPath())
	return code
}
