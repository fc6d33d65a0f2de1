package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"fanout/cmd/internal/terminal"
)

// input is standard input: a file named -, or a person's answers.
type input struct {
	*output

	stdin io.Reader
}

// confirm asks on a terminal; elsewhere it takes --yes.
func (i *input) confirm(ctx context.Context, yes bool, question string) error {
	if yes {
		return nil
	}
	in, ok := i.stdin.(*os.File)
	if !ok || !terminal.Is(in) {
		return misuse(hint(errors.New("there is no terminal to ask for confirmation"), "add --yes to go ahead, or --dry-run to look first"))
	}
	if i.answered(ctx, in, question+" [y/N]", "y", "yes") {
		return nil
	}
	return &exitError{code: exitProblem, err: errors.New("not sent")}
}

// answered asks a question on a terminal, and says whether one of the wanted answers was typed.
func (i *input) answered(ctx context.Context, in *os.File, question string, wanted ...string) bool {
	fmt.Fprint(i.stderr, question+" ")
	answer := make(chan string, 1)
	go func() { // a terminal cannot be read with a context; nothing else reads it once this was interrupted
		line, _ := bufio.NewReader(in).ReadString('\n') // no answer is a no
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(i.stderr)
		return false
	case text := <-answer:
		return slices.Contains(wanted, text)
	}
}

// readFile reads a whole file; - is standard input.
func (i *input) readFile(name string) ([]byte, error) {
	if name == "-" {
		data, err := io.ReadAll(i.stdin)
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return data, nil
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return data, nil
}
