package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"fanout/spelling"
)

// Problem is one thing that is wrong, for the person who can put it right.
type Problem struct {
	Location string // file:line, an environment variable or a flag; empty: the default
	Key      string // dotted, as in the file: kafka.brokers[1]
	Value    string // as given; a secret is masked
	Text     string // what is wrong, and what to write instead
}

// String is one line.
func (p Problem) String() string {
	var line strings.Builder
	if p.Location != "" {
		line.WriteString(p.Location + ": ")
	}
	if p.Key != "" {
		fmt.Fprintf(&line, "%.200s: ", p.Key)
	}
	if p.Value != "" {
		fmt.Fprintf(&line, "%.100q: ", WithoutPasswords(p.Value))
	}
	return readable(line.String() + p.Text)
}

// readable keeps a line a line: what came out of a file may hold line ends, and what a terminal obeys.
func readable(text string) string {
	if !strings.ContainsFunc(text, unreadable) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if unreadable(r) {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unreadable(r rune) bool { return !strconv.IsPrint(r) || r == utf8.RuneError }

// Problems is the error of Load: all that is wrong, one a line.
//
//nolint:errname // it is a list, and reads as one where it is used
type Problems []Problem

// Error implements error.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// Warning is something that is odd and does no harm.
type Warning string

// nearest is the ending "; did you mean X?" where one of the known words is close to the given one.
func nearest(word string, known []string) string {
	if best := spelling.Nearest(word, known); best != "" {
		return "; did you mean " + best + "?"
	}
	return ""
}

// list is "a, b or c".
func list(words ...string) string {
	words = slices.Clone(words)
	if n := len(words); n > 1 {
		return strings.Join(words[:n-1], ", ") + " or " + words[n-1]
	}
	return strings.Join(words, "")
}
