// Command bench measures fanout on this machine, as a process of its own, on real Kafka, Redis and receivers.
//
// Every figure is a comparison within one run: machines differ, and so does one machine from hour to hour, by more than
// most changes to the code do. `bench help` lists the parts.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
)

// part is one thing that can be measured.
type part struct {
	name, about string
	run         func(ctx context.Context, args []string, out io.Writer) error
}

func parts() []part {
	return []part{
		{"pipeline", "pace and CPU of fanout beside bare loops of HTTP clients (the default)", pipeline},
		{"tls", "the same over HTTPS with keep-alive", overTLS},
		{"plain", "fanout as it is, beside the yardsticks", comparison("plain", single)},
		{"batch", "deliveries one by one, and 10, 100 and 1000 in a request", comparison("batch", batches)},
		{"subscriptions", "1 to 1 000 000 subscriptions: CPU a delivery, memory, start", comparison("subscriptions", sizes)},
		{"filters", "1 000 000 subscriptions without and with notificationIds: CPU a delivery, memory, start", comparison("filters", filtered)},
		{"fanout", "1, 10 and 100 subscriptions an event", comparison("fanout", fanOuts)},
		{"failing", "1 % and 20 % of the deliveries answered 503", comparison("failing", failures)},
		{"instances", "1, 2 and 3 instances on this machine", comparison("instances", fleets)},
		{"attempts", "attempts.topic off and on", comparison("attempts", audited)},
		{"retry", "what is due on a retry tier, beside first attempts", comparison("retry", tiers)},
		{"inflight", "memory with 10 000 attempts in flight", inFlight},
		{"hosts", "10 000 hosts over TLS: handshakes, how many are resumed, CPU, memory", hosts},
		{"loops", "the bare loops alone", loops},
		{"latency", "from a record's append to its request's receipt, at a steady rate", latency},
		{"tails", "the same at several rates, of fanout and of the plain pipeline in turns", tails},
		{"slow", "what the others notice of receivers that hang or are slow", slow},
		{"fairness", "what all other accounts notice of one that has many webhooks, slow or failing ones", fairness},
		{"waiting", "the same while a million deliveries of one account wait, how often they are written over, and what that costs", waiting},
		{"deploy", "what the others notice of a rolling restart while a receiver hangs", deploy},
		{"siege", "what deliveries and /healthz notice of a flood at the admin listener, and the settings page of 100 000 webhooks", besieged},
		{"outage", "a receiver that fails for a while: requests it got, and how its backlog drains", outage},
		{"rate", "maxPerSecond over 1 and 3 instances, and Retry-After", limits},
		{"rest", "what an instance costs that has nothing to do, and a delivery where there are few", rest},
		{"letters", "the first list of an account with ten dead letters of five million, before and after the index has them", deadLetters},
		{"idle", "memory after many subscriptions each got one delivery", idle},
		{receiverPart, "(used by latency) a receiver that notes when requests come", receive},
		{plainPart, "(used by tails) the plain pipeline, as a process of its own", plainProcess},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has run
	}
}

// run runs the part that the first argument names, else the first one.
func run(ctx context.Context, args []string, out io.Writer) error {
	all := parts()
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return all[0].run(ctx, args, out)
	}
	var list strings.Builder
	for _, p := range all {
		if p.name == args[0] {
			return p.run(ctx, args[1:], out)
		}
		fmt.Fprintf(&list, "  %-13s %s\n", p.name, p.about)
	}
	if args[0] == "help" {
		fmt.Fprintf(out, "bench [part] [flags]; bench [part] -h lists the flags\n%s", &list)
		return nil
	}
	return fmt.Errorf("no part %q; there are\n%s", args[0], &list)
}

func machine() string {
	return fmt.Sprintf("%d CPUs, %s, %s/%s", runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
