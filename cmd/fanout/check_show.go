package main

import (
	"fmt"
	"io"
	"strings"

	"fanout/cmd/internal/terminal"
	"fanout/config"
)

// showFindings shows what check has found, and ends it with status 1 where there is a problem.
func (c *checkCommand) showFindings(f findings) error {
	problems := 0
	for i, one := range f {
		// Wrong configuration is checked too, and the checked text is quoted.
		f[i].Found, f[i].Remedy = config.WithoutPasswords(one.Found), config.WithoutPasswords(one.Remedy)
		if one.State == "problem" {
			problems++
		}
	}
	var err error
	if c.asJSON() {
		err = c.json(map[string]any{"ok": problems == 0, "findings": f})
	} else if _, err = io.WriteString(c.stdout, strings.Join(f.lines(c.width()), "\n")+"\n"); err != nil {
		err = fmt.Errorf("write the result: %w", err)
	}
	if err == nil && problems > 0 {
		return said()
	}
	return err
}

const (
	stateWidth = len("problem")
	mostWhat   = 32 // cells of what was looked at: an account's name may be long
)

// lines show each finding, with its remedy below.
func (f *findings) lines(width int) (lines []string) {
	whatWidth := 0
	for _, one := range *f {
		whatWidth = max(whatWidth, min(terminal.Width(terminal.Visible(one.What)), mostWhat))
	}
	indent := stateWidth + 2 + whatWidth + 2
	below := strings.Repeat(" ", indent)
	if width > 0 && width < indent+30 {
		below = strings.Repeat(" ", stateWidth+2) // there is more room below what was looked at
	}
	for _, one := range *f {
		what := terminal.Visible(one.What)
		if width > 0 {
			what = terminal.Cut(what, mostWhat)
		}
		first := fmt.Sprintf("%-*s  %s%s  ", stateWidth, one.State, what, strings.Repeat(" ", max(0, whatWidth-terminal.Width(what))))
		for i, line := range strings.Split(one.Found, "\n") {
			if i > 0 {
				first = below + "  "
			}
			lines = append(lines, hang(first, below, strings.TrimSpace(line), width)...)
		}
		first = below + "→ "
		for line := range strings.SplitSeq(one.Remedy, "\n") {
			if line != "" {
				lines = append(lines, remedy(first, below+"  ", line, width)...)
			}
			first = below + "    "
		}
	}
	return lines
}

// hang is a text behind first, whose further lines stand behind below.
func hang(first, below, text string, width int) (lines []string) {
	text = terminal.Visible(text)
	if width > 0 && terminal.Width(first) > terminal.Width(below) { // no room beside: begin below
		lines = append(lines, strings.TrimRight(first, " "))
		first = below
	}
	room := 0
	if width > 0 {
		room = max(20, width-terminal.Width(below))
	}
	for i, line := range terminal.Wrap(text, room) {
		if i > 0 {
			first = below
		}
		lines = append(lines, first+line)
	}
	return lines
}

// remedy is what to do. A command is left to the terminal to break, so that it can be copied as one line.
func remedy(first, below, text string, width int) []string {
	if strings.Contains(text, " --") {
		width = 0
	}
	return hang(first, below, text, width)
}
