package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"fanout/cmd/internal/terminal"
)

// An outcome fits the terminal: on more than one line, where one is too narrow.
func TestTailFits(t *testing.T) {
	t.Parallel()
	next := time.Now().Add(time.Minute)
	o := outcomeLine{
		Time: time.Now(), ID: "msg_2mbk7qbnrzvv2pfh3esgfzy4ea", Account: "顧客-" + strings.Repeat("一", 60), Subscription: "crm", Event: "EMAIL_OPEN",
		Stage: "retry", Attempt: 3, Outcome: "retry", Reason: "status", TookMs: 12.3, Detail: "503 \x1b[2J" + strings.Repeat("Service Unavailable ", 12), NotBefore: &next,
	}
	for _, width := range []int{40, 80, 120, 500} {
		text := o.text(width)
		for line := range strings.SplitSeq(text, "\n") {
			if terminal.Width(line) > width {
				t.Errorf("%d cells in %d: %s", terminal.Width(line), width, line)
			}
		}
		if width >= 80 && !strings.Contains(text, o.ID) || strings.Contains(text, "\x1b") {
			t.Errorf("%d cells:\n%s", width, text)
		}
	}
	if text := o.text(0); strings.Contains(text, "\n") || strings.Contains(text, "…") || !strings.Contains(text, "retry/status") || !strings.HasSuffix(text, next.Local().Format("15:04:05")) {
		t.Errorf("without a limit:\n%s", text)
	}
}

// A delivery that went out in a batch says in which, once.
func TestTailNamesTheBatch(t *testing.T) {
	t.Parallel()
	o := outcomeLine{Time: time.Now(), ID: "msg_2mbk7qbnrzvv2pfh3esgfzy4ea", Stage: "first", Attempt: 1, Outcome: "delivered", Batch: "msg_batch", BatchSize: 3}
	if text := o.text(0); !strings.HasSuffix(text, "one of 3 in msg_batch") {
		t.Error(text)
	}
	o.BatchSize = 1
	if text := o.text(0); !strings.HasSuffix(text, "alone in msg_batch") {
		t.Error(text)
	}
	if o.Detail = "400 (one of 3 in msg_batch)"; strings.Count(o.text(0), "msg_batch") != 1 {
		t.Error(o.text(0))
	}
}

// What an instance refuses is said in words: the detail, then each field, and what to do where that is known.
func TestRefused(t *testing.T) {
	t.Parallel()
	r := remote{base: "http://127.0.0.1:8080"}
	problem := http.Header{"Content-Type": {"application/problem+json"}}
	for _, c := range []struct {
		status     int
		header     http.Header
		body, want string
		hint       string
	}{
		{
			400, problem, `{"title":"Bad Request","detail":"the query is not valid","errors":[{"field":"outcome","detail":"want delivered\nor retry"},{"field":"","detail":"and more"}]}`,
			"http://127.0.0.1:8080: the query is not valid; outcome: want delivered␊or retry; and more (400)", "",
		},
		{503, problem, `{"title":"Service Unavailable"}`, "http://127.0.0.1:8080: Service Unavailable (503)", ""},
		{503, nil, "<html>\x1b[2J", "http://127.0.0.1:8080 answers 503 Service Unavailable", ""},
		{401, problem, `{"title":"Unauthorized","detail":"no token"}`, "http://127.0.0.1:8080 refuses the token (401)", "set admin.token"},
		{421, problem, `{"title":"Misdirected Request"}`, "http://127.0.0.1:8080 does not go by that name (421)", "admin.public_url"},
		{404, nil, "404 page not found", "http://127.0.0.1:8080: the server there is not a fanout instance", "--admin URL"},
		{302, nil, "", "http://127.0.0.1:8080: the server there is not a fanout instance", "--admin URL"},
	} {
		err := r.refused(c.status, c.header, []byte(c.body))
		if err.Error() != c.want {
			t.Errorf("%d %s: %q, want %q", c.status, c.body, err, c.want)
		}
		var told writer
		(&app{stderr: &told}).report(err, exitProblem, "fanout tail")
		if !strings.Contains(told.String(), c.hint) {
			t.Errorf("%d: want the hint %q: %s", c.status, c.hint, told.String())
		}
	}
}

// Completion is silent and quick where Redis takes the connection and says nothing.
func TestCompletionIsQuick(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	var stdout, stderr writer
	code := run(t.Context(), []string{"__complete", "subscriptions", "get", ""}, []string{"FANOUT_REDIS_URL=redis://" + hanging(t)}, nil, &stdout, &stderr)
	if took := time.Since(begun); code != 0 || took > completionPatience+2*time.Second || stdout.String() != ":4\n" || strings.Contains(strings.ToLower(stderr.String()), "redis") {
		t.Errorf("exit %d after %s\n%s\n%s", code, took, stdout.String(), stderr.String())
	}
}
