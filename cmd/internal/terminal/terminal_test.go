package terminal_test

import (
	"bytes"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fanout/cmd/internal/terminal"
)

func TestVisible(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                          "",
		`plain "quoted" C:\temp`:    `plain "quoted" C:\temp`,
		"a\tb\r\nc\x00":             "a␉b␍␊c␀",
		"\x1b[2J\x1b]0;owned\a":     "␛[2J␛]0;owned␇",
		"del\x7f c1\u009b31m":       "del␡ c1<U+009B>31m",
		"right\u202eto left":        "right<U+202E>to left",
		"no\u00a0break":             "no<U+00A0>break",
		"bad \xff\xfe utf-8":        "bad �� utf-8",
		"顧客-一 naïve été":            "顧客-一 naïve été",
		"👩‍👩‍👧 👍🏽 🇩🇪":               "👩‍👩‍👧 👍🏽 🇩🇪",
		"می\u200cخواهم":             "می\u200cخواهم",
		"ac\u200dme\u200c":          "ac<U+200D>me<U+200C>",
		"\u200dstart and \ufeffend": "<U+200D>start and <U+FEFF>end",
	} {
		if got := terminal.Visible(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
	if got := terminal.VisibleLines("a\tb\n\x1bc\n"); got != "a␉b\n␛c\n" {
		t.Errorf("lines: %q", got)
	}
}

// Whatever the text, nothing that is shown controls a terminal or is hidden.
func TestVisibleIsHarmless(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "text")
		for _, r := range terminal.Visible(text) {
			if unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control) {
				t.Fatalf("%q is shown as %q", text, terminal.Visible(text))
			}
		}
	})
}

func TestCut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{
		{"account", 7, "account"},
		{"account", 6, "acc…nt"},
		{"account", 5, "ac…nt"},
		{"account", 2, "a…"},
		{"account", 1, "…"},
		{"account", 0, ""},
		{"顧客一二三", 10, "顧客一二三"},
		{"顧客一二三", 9, "顧客…二三"},
		{"顧客一二三", 8, "顧客…三"}, // a character of two cells is never halved
		{"顧客一二三", 2, "…"},
		{"👩‍👩‍👧👩‍👩‍👧👩‍👩‍👧", 5, "👩‍👩‍👧…👩‍👩‍👧"},
	} {
		got := terminal.Cut(c.text, c.width)
		if got != c.want || terminal.Width(got) > c.width {
			t.Errorf("%s cut to %d cells is %q of %d, want %q", c.text, c.width, got, terminal.Width(got), c.want)
		}
	}
	for width, want := range map[int]string{20: "webhook-id", 7: "webhoo…", 1: "…", 0: ""} {
		if got := terminal.CutEnd("webhook-id", width); got != want {
			t.Errorf("%d cells: %q, want %q", width, got, want)
		}
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text  string
		width int
		want  []string
	}{
		{"", 5, []string{""}},
		{"one two three", 0, []string{"one two three"}},
		{"one two three", 7, []string{"one two", "three"}},
		{"one two three", 4, []string{"one", "two", "thre", "e"}},
		{"顧客 一二三四", 5, []string{"顧客", "一二", "三四"}},
		{"顧客", 1, []string{"顧", "客"}}, // a line has one character at least
	} {
		if diff := cmp.Diff(c.want, terminal.Wrap(c.text, c.width)); diff != "" {
			t.Errorf("%q at %d (-want +got):\n%s", c.text, c.width, diff)
		}
	}
}

func example() *terminal.Table {
	return &terminal.Table{
		Columns: []terminal.Column{
			{Name: "COUNT", Right: true}, {Name: "ACCOUNT", Least: 6}, {Name: "STATUS", Leave: 2}, {Name: "ID", Leave: 1}, {Name: "DETAIL", Least: 8},
		},
		Rows: [][]string{
			{"3", "acme", "503", "msg_a", "connection\trefused"},
			{"1200", "顧客-一", "", "msg_b", "👍🏽 fine"},
			{"7", strings.Repeat("tenant-", 4) + "end"},
		},
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		width int
		want  string
		left  string
	}{
		{0, `
COUNT  ACCOUNT                          STATUS  ID     DETAIL
    3  acme                             503     msg_a  connection␉refused
 1200  顧客-一                                  msg_b  👍🏽 fine
    7  tenant-tenant-tenant-tenant-end
`, ""},
		{60, `
COUNT  ACCOUNT             STATUS  ID     DETAIL
    3  acme                503     msg_a  connection␉refused
 1200  顧客-一                     msg_b  👍🏽 fine
    7  tenant-te…nant-end
`, ""},
		{31, `
COUNT  ACCOUNT  ID     DETAIL
    3  acme     msg_a  conn…sed
 1200  顧客-一  msg_b  👍🏽 fine
    7  ten…end
`, "STATUS"},
		{30, `
COUNT  ACCOUNT     DETAIL
    3  acme        conne…fused
 1200  顧客-一     👍🏽 fine
    7  tenan…-end
`, "STATUS ID"},
		{20, `
COUNT  ACCO…  DETAIL
    3  acme   con…ed
 1200  顧…一  👍🏽 …ne
    7  te…nd
`, "STATUS ID"},
	} {
		lines, left := example().Lines(c.width)
		got := "\n" + strings.Join(lines, "\n") + "\n"
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%d cells (-want +got):\n%s", c.width, diff)
		}
		if strings.Join(left, " ") != c.left {
			t.Errorf("%d cells: %v are left out, want %s", c.width, left, c.left)
		}
	}
}

// A long text goes on in its own column.
func TestTableWraps(t *testing.T) {
	t.Parallel()
	table := terminal.Table{NoHead: true, Columns: []terminal.Column{{}, {Wrap: true, Least: 10}}, Rows: [][]string{
		{"problem", "records are kept for 10d only, want 48d"},
		{"ok", "valid"},
	}}
	want := []string{"problem  records are kept", "         for 10d only,", "         want 48d", "ok       valid"}
	lines, _ := table.Lines(25)
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Whatever is in a table, it fits, its columns stand below one another, and what must stay does.
func TestTableFits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		table := terminal.Table{NoHead: rapid.Bool().Draw(t, "nohead")}
		columns := rapid.IntRange(1, 8).Draw(t, "columns")
		for range columns {
			table.Columns = append(table.Columns, terminal.Column{
				Name: rapid.StringMatching(`[A-Z]{1,9}`).Draw(t, "name"), Right: rapid.Bool().Draw(t, "right"), Wrap: rapid.Bool().Draw(t, "wrap"),
				Least: rapid.IntRange(0, 12).Draw(t, "least"), Leave: rapid.IntRange(0, 3).Draw(t, "leave"),
			})
		}
		value := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z顧客👍]{0,40}`))
		table.Rows = rapid.SliceOfN(rapid.SliceOfN(value, 0, columns), 0, 6).Draw(t, "rows")
		width := rapid.IntRange(4*columns, 100).Draw(t, "width")
		lines, left := table.Lines(width)
		for _, line := range lines {
			if terminal.Width(line) > width || strings.HasSuffix(line, " ") {
				t.Fatalf("%d cells wide, of %d: %q", terminal.Width(line), width, line)
			}
		}
		for _, c := range table.Columns {
			if c.Leave == 0 {
				continue
			}
			left = removeOne(left, c.Name)
		}
		if len(left) > 0 {
			t.Fatalf("left out, and should never be: %v", left)
		}
		whole, none := table.Lines(0)
		if len(none) > 0 {
			t.Fatalf("no limit, and %v are left out", none)
		}
		for _, line := range whole {
			if strings.Contains(line, "…") && !strings.Contains(strings.Join(flat(table.Rows), ""), "…") {
				t.Fatalf("no limit, and cut: %q", line)
			}
		}
	})
}

func removeOne(names []string, name string) []string {
	for i := range names {
		if names[i] == name {
			return append(names[:i:i], names[i+1:]...)
		}
	}
	return names
}

func flat(rows [][]string) (all []string) {
	for _, row := range rows {
		all = append(all, row...)
	}
	return all
}

// What is not a terminal has no limit, unless COLUMNS sets one.
func TestLimit(t *testing.T) {
	t.Parallel()
	for columns, want := range map[string]int{"": 0, "100": 100, "0": 0, "-3": 0, "wide": 0} {
		if got := terminal.Limit(&bytes.Buffer{}, columns); got != want {
			t.Errorf("COLUMNS=%s: %d, want %d", columns, got, want)
		}
	}
	if terminal.Is(&bytes.Buffer{}) || terminal.Is(nil) {
		t.Error("a buffer is no terminal")
	}
}

// Arrows and function keys are no keys, and swallow none.
func TestKeys(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]string{
		"qn": "qn", "\x1b[Aq": "q", "a\x1b[1;5Cb": "ab", "\x1bOPx\x1b[15~y": "xy", "\x1bq": "q", "\x03": "\x03", "\x1b": "", "\x1b[": "",
	} {
		if got := terminal.Keys(typed); got != want {
			t.Errorf("%q has the keys %q, want %q", typed, got, want)
		}
	}
}
