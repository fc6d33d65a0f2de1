package post_test

import (
	"strings"
	"testing"

	"fanout/dispatcher/post"
)

// TestAnswerFields says of which answers Location and Date are kept, and how much of them.
func TestAnswerFields(t *testing.T) {
	const fields = "Date: Sat, 31 Jan 2026 08:00:00 GMT\r\nLOCATION:  /login \r\nContent-Length: 0\r\n\r\n"
	for status, want := range map[string]post.Response{
		"200": {Status: 200}, "302": {Status: 302, Location: "/login"}, "401": {Status: 401, Date: "Sat, 31 Jan 2026 08:00:00 GMT"}, "503": {Status: 503, Date: "Sat, 31 Jan 2026 08:00:00 GMT"},
	} {
		s := serve(t, answers("HTTP/1.1 "+status+" X\r\n"+fields))
		resp, err := do(client(t, post.Config{}), s.target())
		if err != nil || resp.Location != want.Location || resp.Date != want.Date || resp.Status != want.Status {
			t.Errorf("%s: %+v, %v", status, resp, err)
		}
	}
	s := serve(t, answers("HTTP/1.1 302 X\r\nLocation: /"+strings.Repeat("a", 3000)+"\r\nContent-Length: 0\r\n\r\n"))
	if resp, err := do(client(t, post.Config{}), s.target()); err != nil || resp.Location != "" {
		t.Errorf("%d bytes of Location, %v", len(resp.Location), err)
	}
}
