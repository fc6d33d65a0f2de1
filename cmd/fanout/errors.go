package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/spelling"
)

// The exit statuses: docs/contract.md#exit-codes.
const (
	exitDone     = 0
	exitProblem  = 1
	exitMisuse   = 2
	exitUnjudged = 3 // of audit: nothing is known to be missing, but not all could be judged
)

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
func said() error { return &exitError{code: exitProblem} }

// misuse ends a command with status 2: its flags or arguments make no sense.
func misuse(err error) error { return &exitError{code: exitMisuse, err: err} }

func misusef(format string, args ...any) error { return misuse(fmt.Errorf(format, args...)) }

// choice refuses a value that is none of the known ones, and names the nearest. An empty value is fine: the flag was not
// given. name is the flag as it is typed.
func choice(name, value, noun string, known []string) error {
	if value == "" || slices.Contains(known, value) {
		return nil
	}
	return misuse(errors.New(unknownValue(name, value, noun, known)))
}

// unknownValue says that a flag's value is none of the known ones.
func unknownValue(name, value, noun string, known []string) string {
	choose := "; choose from "
	if near := meant(value, known); near != "" {
		choose = near + " Choose from "
	}
	return fmt.Sprintf("%s %s: unknown %s%s%s", name, value, noun, choose, strings.Join(known, ", "))
}

// meant is the end of a message about an unknown word: the known one that it is close to, if there is one.
func meant(word string, known []string) string {
	if nearest := spelling.Nearest(word, known); nearest != "" {
		return "; did you mean " + nearest + "?"
	}
	return ""
}

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

// report tells a person what went wrong, and what to do. command is what was called, as in "fanout deadletter list".
func (a *app) report(err error, code int, command string) {
	text := err.Error()
	if text == "" {
		return
	}
	if problems, ok := errors.AsType[config.Problems](err); ok {
		fmt.Fprintf(a.stderr, "fanout: the configuration has %s\n  %s\n", count(len(problems), "problem"),
			strings.ReplaceAll(terminal.VisibleLines(problems.Error()), "\n", "\n  "))
		return
	}
	fmt.Fprintf(a.stderr, "fanout: %s\n", terminal.VisibleLines(text)) // it may quote what others wrote
	if hinted, ok := errors.AsType[*hintError](err); ok {
		fmt.Fprintf(a.stderr, "  → %s\n", terminal.VisibleLines(hinted.hint))
	} else if code == exitMisuse {
		fmt.Fprintf(a.stderr, "  → %s --help\n", command)
	}
}
