package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// sendingFlags are those of a replay and of a backfill alike.
type sendingFlags struct {
	name               string
	dryRun, yes, again bool
	rate               float64
	maxFailures        int
}

// flags adds them. kind begins the default name, and again says what --again sends.
func (f *sendingFlags) flags(flags *pflag.FlagSet, kind, again string) {
	flags.StringVar(&f.name, "name", "", "`NAME` under which it can be resumed (default "+kind+"-<date>-<time>)")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only say what would be sent")
	flags.BoolVar(&f.yes, "yes", false, "do not ask")
	flags.BoolVar(&f.again, "again", false, "send also what "+again)
	flags.Float64Var(&f.rate, "rate", 1000, "records a second; 0 means as fast as possible")
	flags.IntVar(&f.maxFailures, "max-failures", 100, "stop when more deliveries than that have failed; 0 means never")
}

// problems says what is wrong with them.
func (f *sendingFlags) problems() (problems []string) {
	if len(f.name) > 200 || strings.ContainsFunc(f.name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		problems = append(problems, fmt.Sprintf("--name %q: use at most 200 bytes, without spaces", f.name))
	}
	if !(f.rate >= 0) || math.IsInf(f.rate, 0) || f.maxFailures < 0 { // NaN is not >= 0 either
		problems = append(problems, "--rate and --max-failures must not be negative")
	}
	return problems
}

// sending is a replay or a backfill that runs.
type sending interface {
	Sent() int64
	Taken() int64
	Failures() int64
	Sending() time.Duration
}

// sentResult is what it did, for programs.
type sentResult struct {
	Name     string  `json:"name"`
	Sent     int64   `json:"sent"`
	Taken    int64   `json:"taken"` // sent by another one since the plan was made
	Failures int64   `json:"failures"`
	Seconds  float64 `json:"seconds"`
	Error    string  `json:"error,omitempty"`
	Plan     any     `json:"plan"`
}

// jsonSent writes, as JSON, what was sent before it ended with err.
func (o *output) jsonSent(s sending, name string, plan any, err error) error {
	result := sentResult{Name: name, Sent: s.Sent(), Taken: s.Taken(), Failures: s.Failures(), Seconds: s.Sending().Seconds(), Plan: plan}
	if err != nil {
		result.Error = err.Error()
	}
	if jsonErr := o.json(result); jsonErr != nil || err == nil {
		return jsonErr
	}
	return said()
}

// howToGoOn is the error that sending ended with, for people.
func howToGoOn(err error, s sending, of int, name string) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		err = fmt.Errorf("interrupted after %d of %d", s.Sent(), of)
	}
	return hint(err, "to go on, repeat the command with --name %s", name)
}
