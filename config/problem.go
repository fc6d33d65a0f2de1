package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Problem is one thing that is wrong, for the person who can mend it.
type Problem struct {
	Place string // file:line, an environment variable or a flag; empty: the default
	Key   string // dotted, as in the file: kafka.brokers[1]
	Value string // as given; a secret is masked
	Text  string // what is wrong, and what to write instead
}

// String is one line.
func (p Problem) String() string {
	var line strings.Builder
	if p.Place != "" {
		line.WriteString(p.Place + ": ")
	}
	if p.Key != "" {
		fmt.Fprintf(&line, "%.200s: ", p.Key)
	}
	if p.Value != "" {
		fmt.Fprintf(&line, "%.100q: ", p.Value)
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
	best, distance := "", max(1, len(word)/3)+1
	for _, k := range known {
		if len(k) > 3 && strings.HasPrefix(word, k) {
			best = k
			break
		}
		if d := edits(strings.ToLower(word), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// edits is how many letters have to be changed, added, dropped or swapped with their neighbour to make b of a.
func edits(a, b string) int {
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(row[j]+1, last[j+1]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// list is "a, b or c".
func list(words ...string) string {
	words = slices.Clone(words)
	if n := len(words); n > 1 {
		return strings.Join(words[:n-1], ", ") + " or " + words[n-1]
	}
	return strings.Join(words, "")
}
