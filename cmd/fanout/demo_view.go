//go:build !nodemo

package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"fanout/cmd/internal/terminal"
	"fanout/event"
)

// demoView is what a person sees of the demo: on a terminal a block that is drawn again and again, elsewhere a line every
// other second.
type demoView struct {
	out     io.Writer
	errs    io.Writer
	block   *terminal.Block // nil: out is not a terminal, or a dumb one
	colours bool
	columns string // COLUMNS
	flags   *demoFlags
	command string // how fanout is called in a second terminal

	opened   time.Time
	began    time.Time // when traffic did; zero before
	stopped  time.Time // when traffic ended; zero before
	reported time.Time // when a line was written
	rows     int
}

func (c *demoCommand) newView(f *demoFlags) *demoView {
	v := &demoView{out: c.stdout, errs: c.stderr, flags: f, columns: c.env.variable("COLUMNS"), command: invocation(os.Args[0]), opened: time.Now()}
	if c.asJSON() { // standard output is the program's
		v.out = c.stderr
	}
	if terminal.Is(v.out) && c.env.variable("TERM") != "dumb" {
		v.block = terminal.NewBlock(v.out)
		v.colours = terminal.Colours(v.out, c.env.variable)
	}
	return v
}

// invocation is how this program can be called again: arg0 is how it was.
func invocation(arg0 string) string {
	if strings.Contains(filepath.ToSlash(arg0), "/go-build") { // go run builds it in a folder of its own
		return "go run ./cmd/fanout"
	}
	return arg0
}

// logs is where the log goes: above the block, where both are on the terminal.
func (v *demoView) logs() io.Writer {
	if v.block != nil && terminal.Is(v.errs) {
		return v.block
	}
	return v.errs
}

// close takes the block away.
func (v *demoView) close() {
	if v.block != nil {
		_ = v.block.Clear()
	}
}

// width is how wide text may be, in cells; 0 means no limit.
func (v *demoView) width() int { return terminal.Limit(v.out, v.columns) }

func (v *demoView) paint(style terminal.Style, text string) string {
	if !v.colours {
		return text
	}
	return style.Paint(text)
}

// print shows lines that stay.
func (v *demoView) print(lines ...string) {
	text := strings.Join(lines, "\n") + "\n"
	if v.block != nil {
		_, _ = io.WriteString(v.block, text)
		return
	}
	_, _ = io.WriteString(v.out, text)
}

// say shows prose that stays.
func (v *demoView) say(text string) { v.print(terminal.Wrap(text, v.width())...) }

func (v *demoView) draw(lines ...string) {
	if v.block != nil {
		_ = v.block.Draw(lines)
	}
}

// starting says what is being started.
func (v *demoView) starting(what string) {
	text := "Starting " + what + "…"
	if took := time.Since(v.opened); took >= time.Second {
		text += fmt.Sprintf(" %.0f s", took.Seconds())
	}
	v.draw(text)
	if v.block == nil && v.reported.IsZero() {
		v.reported = time.Now()
		v.say("Starting Kafka, Redis, three receivers and fanout…")
	}
}

// playground is what somebody who plays with the demo needs to know.
type playground struct {
	dashboard, kafka, redis string
	taken                   string // the address that the dashboard should have had; empty: it has it
	file                    string // the configuration
	receivers               receivers
	unset                   []string // variables that would come before the file
}

// started shows the addresses and how to use them.
func (v *demoView) started(p *playground) {
	v.print(v.paint(terminal.Bold, "fanout demo")+fmt.Sprintf(": ready after %.1f s", time.Since(v.opened).Seconds()), "")
	v.print("dashboard: " + v.paint(terminal.Bold, p.dashboard))
	if p.taken != "" {
		v.print("           (" + p.taken + " is taken)")
	}
	v.print("Kafka:     "+p.kafka, "Redis:     "+p.redis, "config:    "+p.file, "")
	v.say(fmt.Sprintf("Three webhooks get %d events a second:", v.flags.rate))
	table := terminal.Table{NoHead: true, Columns: []terminal.Column{{}, {Wrap: true, Least: 16}}}
	for _, r := range p.receivers {
		table.Rows = append(table.Rows, []string{"  " + r.account + "/" + r.id, r.manner})
	}
	lines, _ := table.Lines(v.width())
	v.print(append(lines, "", "In a second terminal:", "  export FANOUT_CONFIG="+shellWord(p.file))...)
	if len(p.unset) > 0 {
		v.print("  unset " + strings.Join(p.unset, " "))
	}
	v.print("  "+v.command+" top", "  "+v.command+" deadletter stats", "")
	v.draw()
	v.began = time.Now()
}

// shellWord is text as one word of a shell's command line.
func shellWord(text string) string {
	if strings.IndexFunc(text, func(r rune) bool { return !strings.ContainsRune(unquoted, r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

const unquoted = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:,@%"

// stopping says that the demo waits, and how to end it at once.
func (v *demoView) stopping() {
	v.stopped = time.Now()
	if v.block == nil {
		v.say(fmt.Sprintf("Stopping: no more events are sent. The last deliveries have %.0f s to end; Ctrl-C again ends the demo at once.", drainWithin.Seconds()))
	}
}

// progress shows how things stand.
func (v *demoView) progress(a *lossAccount) {
	if v.block != nil {
		v.draw(append(v.state(), v.entries(a.now(v.flags.rate), drawnWidth)...)...)
		return
	}
	if time.Since(v.reported) < 1900*time.Millisecond {
		return
	}
	if v.rows == 0 {
		v.row("time", "sent", "delivered", "retried", "waiting", "dead")
	}
	v.rows++
	v.reported = time.Now()
	v.row(fmt.Sprintf("%.1fs", a.Seconds), strconv.Itoa(a.Events), strconv.Itoa(a.Delivered), strconv.Itoa(a.Retried), strconv.Itoa(a.Waiting), strconv.Itoa(a.Dead))
}

// row shows one line of a table that grows. Where there is little room, it leaves retried out.
func (v *demoView) row(taken, sent, delivered, retried, waiting, dead string) {
	if width := v.width(); width > 0 && width < 48 {
		v.print(fmt.Sprintf("%6s %6s %9s %7s %6s", taken, sent, delivered, waiting, dead))
		return
	}
	v.print(fmt.Sprintf("%7s %7s %9s %7s %7s %6s", taken, sent, delivered, retried, waiting, dead))
}

// drawnWidth is how wide the block may be. It fits 40 cells, so that a terminal may be made as narrow while it is shown.
const drawnWidth = 39

// state is what goes on, in lines of at most drawnWidth.
func (v *demoView) state() []string {
	if !v.stopped.IsZero() {
		left := max(0, drainWithin-time.Since(v.stopped))
		return []string{
			"Stopping: no more events are sent.",
			fmt.Sprintf("The last deliveries have %.0f s to end.", left.Seconds()),
			"Ctrl-C again ends the demo at once.",
		}
	}
	running := time.Since(v.began).Truncate(time.Second).String()
	if v.flags.length > 0 {
		running += " of " + v.flags.length.String()
	}
	return []string{"Running for " + running + "; Ctrl-C stops it."}
}

// result shows the account.
func (v *demoView) result(a *lossAccount) {
	v.draw()
	if v.rows > 0 {
		v.print("")
	}
	v.print(v.entries(a.result(), v.width())...)
}

// demoEntry is a number of the account, with what is to be said of it.
type demoEntry struct {
	name  string
	n     int
	note  []string       // parts that are not broken where a line ends
	style terminal.Style // of the number
}

// entries are lines of at most so many cells: names, numbers below one another, and notes that go on in their column.
func (v *demoView) entries(entries []demoEntry, width int) (lines []string) {
	widest, digits := 0, 0
	for _, e := range entries {
		widest, digits = max(widest, len(e.name)), max(digits, len(strconv.Itoa(e.n)))
	}
	indent := widest + 2 + digits + 2
	for _, e := range entries {
		for i, note := range pack(e.note, width-indent) {
			if i > 0 {
				lines = append(lines, strings.Repeat(" ", indent)+note)
				continue
			}
			number := v.paint(e.style, fmt.Sprintf("%*d", digits, e.n))
			lines = append(lines, strings.TrimRight(fmt.Sprintf("%-*s  %s  %s", widest, e.name, number, note), " "))
		}
	}
	return lines
}

// pack puts parts on lines of at most so many cells, as long as each fits by itself. A width of 0 or less means no limit.
func pack(parts []string, width int) []string {
	lines := []string{""}
	for _, part := range parts {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = part
		case width <= 0 || len(*last)+1+len(part) <= width:
			*last += " " + part
		default:
			lines = append(lines, part)
		}
	}
	return lines
}

// now are the entries while the demo goes on.
func (a *lossAccount) now(rate int) []demoEntry {
	parked := ""
	if a.parked > 0 {
		parked = strconv.Itoa(a.parked) + " parked"
	}
	return []demoEntry{
		{name: "sent", n: a.Events, note: []string{strconv.Itoa(rate) + "/s"}},
		{name: "delivered", n: a.Delivered, style: terminal.Green},
		{name: "retried", n: a.Retried},
		{name: "waiting", n: a.Waiting, note: []string{parked}, style: terminal.Yellow},
		{name: "dead", n: a.Dead, style: terminal.Red},
	}
}

// result are the entries at the end: what was sent, what became of each delivery, and how they were made.
func (a *lossAccount) result() []demoEntry {
	some := func(name string, n int, note string) []demoEntry {
		if n == 0 {
			return nil
		}
		return []demoEntry{{name: name, n: n, note: strings.Fields(note)}}
	}
	return slices.Concat(
		[]demoEntry{{name: "sent", n: a.Events, note: a.sentNote()}},
		some("malformed", a.Malformed, "records that are not events, kept as dead letters"),
		some("ignored", a.Ignored, "events of a type that fanout does not deliver"),
		some("unmatched", a.Unmatched, "events that no webhook wants"),
		some("replayed", a.Replayed, "dead letters that were sent again"),
		[]demoEntry{
			{name: "delivered", n: a.Delivered, note: strings.Fields(a.receivedNote()), style: terminal.Green},
			{name: "retried", n: a.Retried, note: strings.Fields("attempts that failed and were made again")},
			{name: "deferred", n: a.Deferred, note: strings.Fields("times a delivery was put off without an attempt")},
			{name: "dead", n: a.Dead, note: a.deadNote(), style: terminal.Red},
		},
		some("discarded", a.Discarded, "deliveries that their webhook did not want any more"),
		some("waiting", a.Waiting, "deliveries that have not ended"),
		[]demoEntry{{name: "lost", n: a.Lost, note: strings.Fields(a.lostNote())}},
	)
}

func (a *lossAccount) sentNote() (parts []string) {
	for _, name := range event.BuiltIn().Names() {
		parts = append(parts, fmt.Sprintf("%s %d", name, a.Sent[name.String()]))
	}
	if a.Others > 0 && !a.Shared {
		parts = append(parts, fmt.Sprintf("and %d that somebody else sent", a.Others))
	}
	return commas(parts)
}

// commas puts a comma behind each part but the last.
func commas(parts []string) []string {
	for i := range parts[:max(0, len(parts)-1)] {
		parts[i] += ","
	}
	return parts
}

// receivedNote says what the receivers took, and whether the signatures were good.
func (a *lossAccount) receivedNote() string {
	if a.Unsigned > 0 {
		return fmt.Sprintf("the demo's receivers took %d and refused %d requests without a good signature", a.Received, a.Unsigned)
	}
	return fmt.Sprintf("the demo's receivers took %d and verified each signature", a.Received)
}

func (a *lossAccount) deadNote() (parts []string) {
	for _, reason := range slices.Sorted(maps.Keys(a.Reasons)) {
		parts = append(parts, fmt.Sprintf("%s %d", reason, a.Reasons[reason]))
	}
	return commas(parts)
}

// lostNote is the loss account: what was planned is what ended.
func (a *lossAccount) lostNote() string {
	sum := fmt.Sprintf("planned %d = delivered %d + dead %d", a.Deliver, a.Delivered, a.Dead)
	if a.Discarded > 0 {
		sum += fmt.Sprintf(" + discarded %d", a.Discarded)
	}
	if a.Waiting > 0 {
		sum += fmt.Sprintf(" + waiting %d", a.Waiting)
	}
	switch {
	case a.Shared && a.Balanced:
		return "not judged: another instance took part, and its numbers are not here"
	case a.Balanced:
		return sum + ": nothing lost"
	case !a.Settled:
		return sum + ": not all have ended"
	}
	return sum + ": THE ACCOUNT DOES NOT BALANCE"
}

// showAccount shows the result, to a person or a program.
func (c *demoCommand) showAccount(v *demoView, account *lossAccount) error {
	if c.asJSON() {
		v.draw()
		return c.json(account)
	}
	v.result(account)
	return nil
}
