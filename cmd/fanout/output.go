package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"fanout/cmd/internal/terminal"
)

// output is where a command's results go, and in which form; standard error has what is said beside them.
type output struct {
	stdout, stderr io.Writer

	format  string // -o
	columns string // COLUMNS, of the environment
}

// asJSON says whether the output is for a program.
func (o *output) asJSON() bool { return o.format == "json" }

// json writes a result for a program.
func (o *output) json(v any) error {
	encoder := json.NewEncoder(o.stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// width is how wide a line on standard output may be; 0 means no limit.
func (o *output) width() int { return terminal.Limit(o.stdout, o.columns) }

// table shows a table to a person, and says which columns did not fit.
func (o *output) table(t *terminal.Table) error {
	width := o.width()
	lines, left := t.Lines(width)
	if len(left) > 0 {
		note := "not shown for want of width: " + strings.Join(left, ", ") + "; -o json has all"
		lines = append(append(lines, ""), terminal.Wrap(note, width)...)
	}
	if _, err := io.WriteString(o.stdout, strings.Join(append(lines, ""), "\n")); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// facts shows names with their values, one a line; long values go on below.
func (o *output) facts(rows [][]string) error {
	return o.table(&terminal.Table{NoHead: true, Columns: []terminal.Column{{}, {Wrap: true, Least: 20}}, Rows: rows})
}

// count is "1 problem" or "2 problems".
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}

// orDash is a value, or - where there is none.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// lister writes results one by one for a program: as one JSON array, or one a line (ndjson).
type lister struct {
	out   *bufio.Writer
	lines bool
	some  bool
}

func (o *output) lister() *lister { return newLister(o.stdout, o.format == "ndjson") }

func newLister(w io.Writer, lines bool) *lister {
	return &lister{out: bufio.NewWriterSize(w, 1<<16), lines: lines}
}

func (l *lister) add(v any) error {
	b, err := marshal(v)
	if err != nil {
		return err
	}
	switch {
	case l.lines:
		b = append(b, '\n')
	case l.some:
		b = append([]byte(",\n"), b...)
	default:
		b = append([]byte("[\n"), b...)
	}
	l.some = true
	_, err = l.out.Write(b)
	return err
}

func (l *lister) end() error {
	text := ""
	switch {
	case l.lines:
	case l.some:
		text = "\n]\n"
	default:
		text = "[]\n"
	}
	_, _ = l.out.WriteString(text) // Flush returns its error
	return l.out.Flush()
}

// marshal keeps <, > and & as they are.
func marshal(v any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, fmt.Errorf("make JSON: %w", err)
	}
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n")), nil
}

// endList ends a list for a program; a person gets none.
func (o *output) endList(list *lister) error {
	if o.format == "table" {
		return nil
	}
	return list.end()
}

// watchSending shows how far it has come while it runs.
func (o *output) watchSending(s sending, total int, run func() error) error {
	done, setTotal, end := o.progress("sending")
	setTotal(int64(total))
	watching := make(chan struct{})
	var follow sync.WaitGroup
	follow.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			done.Store(s.Sent())
			select {
			case <-watching:
				return
			case <-tick.C:
			}
		}
	})
	err := run()
	close(watching)
	follow.Wait()
	end()
	return err
}
