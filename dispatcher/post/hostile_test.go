package post_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"fanout/dispatcher/post"
)

// headers is n bytes of header fields, line ends included.
func headers(n int) string {
	var b strings.Builder
	for n > 1100 {
		b.WriteString("X: " + strings.Repeat("a", 995) + "\r\n")
		n -= 1000
	}
	return b.String() + "X: " + strings.Repeat("a", n-5) + "\r\n"
}

func gzipBomb() string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(make([]byte, 10<<20))
	z.Close()
	return b.String()
}

// hostile is a server that a customer, or an attacker, may run, and what an exchange with it must lead to.
type hostile struct {
	name   string
	play   script
	status int
	kind   post.Kind // where no status comes
	detail string    // of the error, or the body's beginning
	body   []byte    // of the request, if not the payload
}

const (
	ok200       = "HTTP/1.1 200 OK\r\n"
	hostileTime = 600 * time.Millisecond // what an exchange without a status has
)

func hostileServers() []hostile {
	const ok = ok200
	long := []byte(strings.Repeat("x", 8<<20))
	bomb := gzipBomb()
	return []hostile{
		// Cut at each stage.
		{name: "closed at once", play: func(net.Conn, int) {}, kind: post.Connection},
		{name: "reset in the request", play: func(c net.Conn, _ int) { io.CopyN(io.Discard, c, 10); reset(c) }, kind: post.Connection, detail: "reset"},
		{name: "closed after the request", play: answer(""), kind: post.Connection, detail: "closed"},
		{name: "reset after the request", play: func(c net.Conn, _ int) { read(bufio.NewReader(c)); reset(c) }, kind: post.Connection, detail: "reset"},
		{name: "closed in the status line", play: answer("HTTP/1.1 20"), kind: post.Connection, detail: "closed"},
		{name: "closed after the status line", play: answer(ok), kind: post.Connection, detail: "closed"},
		{name: "closed in the headers", play: answer(ok + "Content-Le"), kind: post.Connection, detail: "closed"},
		{name: "closed before the empty line", play: answer(ok + "A: b\r\n"), kind: post.Connection, detail: "closed"},
		{name: "closed in the body", play: answer(ok + "Content-Length: 100\r\n\r\nhalf"), status: 200, detail: "half"},
		{name: "closed in a chunk", play: answer(ok + "Transfer-Encoding: chunked\r\n\r\n10\r\nhalf"), status: 200, detail: "half"},
		{name: "reset while sending", play: func(c net.Conn, _ int) { io.CopyN(io.Discard, c, 1000); reset(c) }, body: long, kind: post.Connection, detail: "reset"},
		{name: "413 before all is sent", play: func(c net.Conn, _ int) {
			io.CopyN(io.Discard, c, 1000)
			io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
		}, body: long, status: 413},
		{name: "503 before the request", play: func(c net.Conn, _ int) {
			io.WriteString(c, "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\n")
			read(bufio.NewReader(c))
		}, status: 503},

		// Time.
		{name: "never answers", play: stall(""), kind: post.Timeout, detail: "no answer within 600ms"},
		{name: "never reads", play: func(net.Conn, int) { <-time.NewTimer(time.Second).C }, body: long, kind: post.Timeout},
		{name: "stalls in the headers", play: stall(ok + "A: b\r\n"), kind: post.Timeout},
		{name: "stalls in the body", play: stall(ok + "Content-Length: 10\r\n\r\nabc"), status: 200, detail: "abc"},
		{name: "drips headers", play: drip(ok, "A: b\r\n"), kind: post.Timeout},
		{name: "drips one header", play: drip(ok+"A: ", "b"), kind: post.Timeout},
		{name: "drips the status line", play: drip("", "HTTP/1.1 200 xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"), kind: post.Timeout},
		{name: "drips the body", play: drip(ok+"Content-Length: 1000000\r\n\r\n", "z"), status: 200, detail: "z"},
		{name: "drips a body without length", play: drip(ok+"\r\n", "z"), status: 200, detail: "z"},
		{name: "drips chunks of a 500", play: drip("HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nz\r\n"), status: 500, detail: "z"},

		// Size.
		{name: "endless headers", play: endless(ok, "A: b\r\n"), kind: post.Connection, detail: "over 32 KiB"},
		{name: "one endless header", play: endless(ok+"A: ", "b"), kind: post.Connection, detail: "over 32 KiB"},
		{name: "endless status line", play: endless("HTTP/1.1 200 ", "O"), kind: post.Connection, detail: "no HTTP response"},
		{name: "endless body", play: endless(ok+"\r\n", "z"), status: 200, detail: "zzz"},
		{name: "endless body with a length", play: endless(ok+"Content-Length: 999999999999\r\n\r\n", "z"), status: 200, detail: "zzz"},
		{name: "endless chunks", play: endless(ok+"Transfer-Encoding: chunked\r\n\r\n", "2\r\nzz\r\n"), status: 200, detail: "zzz"},
		{name: "endless chunk extension", play: endless(ok+"Transfer-Encoding: chunked\r\n\r\n2;", "z"), status: 200},
		{name: "endless trailers", play: endless(ok+"Transfer-Encoding: chunked\r\n\r\n0\r\n", "A: b\r\n"), status: 200},
		{name: "endless 1xx", play: endless("", "HTTP/1.1 100 Continue\r\n\r\n"), kind: post.Connection, detail: "interim"},
		{name: "headers of 31 KiB", play: answers(ok + headers(31<<10) + "\r\n"), status: 200},
		{name: "headers of 32 KiB", play: answers(ok + headers(32<<10) + "\r\n"), status: 200},
		{name: "headers of 32 KiB and a byte", play: answers(ok + headers(32<<10+1) + "\r\n"), kind: post.Connection, detail: "over 32 KiB"},
		{name: "headers of 33 KiB", play: answers(ok + headers(33<<10) + "\r\n"), kind: post.Connection, detail: "over 32 KiB"},
		{name: "one header of 31 KiB", play: answers(ok + "X: " + strings.Repeat("a", 31<<10) + "\r\nContent-Length: 2\r\n\r\nhi"), status: 200, detail: "hi"},
		{name: "gzip bomb", play: answer(ok + fmt.Sprintf("Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", len(bomb)) + bomb), status: 200, detail: bomb[:8]},

		// Other protocols and versions.
		{name: "SMTP banner", play: func(c net.Conn, _ int) { io.WriteString(c, "220 mail ESMTP\r\n"); io.Copy(io.Discard, c) }, kind: post.Connection, detail: "no HTTP"},
		{name: "SSH banner", play: stall("SSH-2.0-OpenSSH_9.9\r\n"), kind: post.Connection, detail: "no HTTP"},
		{name: "HTTP/2 preface", play: stall("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), kind: post.Connection, detail: "no HTTP"},
		{name: "HTTP/2 status line", play: stall("HTTP/2.0 200 OK\r\n\r\n"), kind: post.Connection, detail: "no HTTP"},
		{name: "HTTP/2 frames", play: stall("\x00\x00\x12\x04\x00\x00\x00\x00\x00\n"), kind: post.Connection, detail: "no HTTP"},
		{name: "TLS alert", play: stall("\x15\x03\x01\x00\x02\x02\x46\n"), kind: post.Connection, detail: "no HTTP"},
		{name: "HTML without a header", play: answer("<html>hello</html>\n"), kind: post.Connection, detail: "no HTTP"},
		{name: "binary without an end", play: answer(strings.Repeat("\x00\xff", 5000)), kind: post.Connection, detail: "no HTTP"},
		{name: "HTTP/1.0", play: answer("HTTP/1.0 200 OK\r\n\r\nhello"), status: 200, detail: "hello"},
		{name: "HTTP/1.0 with keep-alive", play: answers("HTTP/1.0 202 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nhi"), status: 202, detail: "hi"},
		{name: "LF only", play: answers("HTTP/1.1 201 Made\nContent-Length: 2\n\nhi"), status: 201, detail: "hi"},
		{name: "LF only, chunked", play: answers("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nhi\n0\n\n"), status: 200, detail: "hi"},
		{name: "no reason phrase", play: answers("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"), status: 200},

		// Statuses.
		{name: "status 99", play: answers("HTTP/1.1 99 No\r\n\r\n"), kind: post.Connection},
		{name: "status 099", play: answers("HTTP/1.1 099 No\r\n\r\n"), kind: post.Connection, detail: "status"},
		{name: "status 1000", play: answers("HTTP/1.1 1000 No\r\n\r\n"), kind: post.Connection},
		{name: "status OK", play: answers("HTTP/1.1 200OK\r\n\r\n"), kind: post.Connection},
		{name: "status with a sign", play: answers("HTTP/1.1 +20 OK\r\n\r\n"), kind: post.Connection, detail: "status"},
		{name: "status abc", play: answers("HTTP/1.1 abc No\r\n\r\n"), kind: post.Connection, detail: "status"},
		{name: "status 999", play: answers("HTTP/1.1 999 No\r\nContent-Length: 0\r\n\r\n"), status: 999},
		{name: "100 and 103 first", play: answers("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n"), status: 204},
		{name: "100 only", play: answer("HTTP/1.1 100 Continue\r\n\r\n"), kind: post.Connection},
		{name: "101 is final", play: stall("HTTP/1.1 101 Switch\r\nUpgrade: x\r\n\r\n"), status: 101},
		{name: "302 is not followed", play: answers("HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n"), status: 302},
		{name: "307 is not followed", play: answers("HTTP/1.1 307 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n"), status: 307},
		{name: "204 with a body", play: answers("HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello"), status: 204},
		{name: "304 with a length", play: answers("HTTP/1.1 304 No\r\nContent-Length: 500\r\n\r\n"), status: 304},
		{name: "a length and no body, as to HEAD", play: stall(ok + "Content-Length: 500\r\n\r\n"), status: 200},

		// Framing.
		{name: "no length", play: answer(ok + "\r\nhello"), status: 200, detail: "hello"},
		{name: "both lengths", play: answers(ok + "Content-Length: 999\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"), status: 200, detail: "hi"},
		{name: "two equal lengths", play: answer(ok + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi"), status: 200, detail: "hi"},
		{name: "two lengths", play: answer(ok + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!"), status: 200, detail: "hi!"},
		{name: "negative length", play: answer(ok + "Content-Length: -2\r\n\r\nhi"), status: 200, detail: "hi"},
		{name: "huge length", play: answer(ok + "Content-Length: 99999999999999999999999\r\n\r\nhi"), status: 200, detail: "hi"},
		{name: "empty length", play: answer(ok + "Content-Length:\r\n\r\nhi"), status: 200, detail: "hi"},
		{name: "chunked with trailers", play: answers(ok + "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n0\r\nA: b\r\n\r\n"), status: 200, detail: "hi"},
		{name: "chunk size no number", play: answers(ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\nhi\r\n"), status: 200},
		{name: "chunk size negative", play: answers(ok + "Transfer-Encoding: chunked\r\n\r\n-2\r\nhi\r\n"), status: 200},
		{name: "chunk size empty", play: answers(ok + "Transfer-Encoding: chunked\r\n\r\n\r\nhi\r\n"), status: 200},
		{name: "chunk size huge", play: stall(ok + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhi\r\n"), status: 200},
		{name: "chunk longer than it says", play: answers(ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n"), status: 200, detail: "he"},
		{name: "unknown transfer coding", play: answer(ok + "Transfer-Encoding: gzip, chunked\r\n\r\nraw"), status: 200, detail: "raw"},
		{name: "folded header", play: answer(ok + "A: b\r\n c\r\nContent-Length: 2\r\n\r\nhi"), status: 200, detail: "hi"},
		{name: "header without a colon", play: answer("HTTP/1.1 503 Oh\r\nwhat is this\r\nContent-Length: 2\r\n\r\nhi"), status: 503, detail: "hi"},
		{name: "header with binary", play: answer("HTTP/1.1 503 Oh\r\n\x00\xff: \x01\r\n\r\nhi"), status: 503, detail: "hi"},
		{name: "space before the colon", play: answer(ok + "Content-Length : 2\r\n\r\nhello"), status: 200, detail: "hello"},
	}
}

// TestHostile plays every server. Each must lead to that status, or to that error, within the deadline; a status must not
// take longer than the 1 s that a body has.
func TestHostile(t *testing.T) {
	const timeout = hostileTime
	for _, tt := range hostileServers() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, tt.play)
			c := client(t, post.Config{})
			if tt.body == nil {
				tt.body = []byte(payload)
			}
			start := time.Now()
			limit := 10 * time.Second
			if tt.status == 0 {
				limit = timeout
			}
			resp, err := doBody(c, s.target(), tt.body, limit)
			took := time.Since(start)
			if tt.status == 0 {
				wantKind(t, err, tt.kind, tt.detail)
				if took > timeout+500*time.Millisecond {
					t.Errorf("it took %v", took)
				}
				return
			}
			if err != nil || resp.Status != tt.status {
				t.Fatalf("got status %d, %v; want %d", resp.Status, err, tt.status)
			}
			if len(resp.Body) > 1024 || !strings.HasPrefix(string(resp.Body), tt.detail) {
				t.Errorf("got %d bytes of body, %.20q; want %q", len(resp.Body), resp.Body, tt.detail)
			}
			if took > 1500*time.Millisecond {
				t.Errorf("it took %v", took)
			}
			if n := s.accepted.Load(); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// TestEndlessMemory says that what a server sends without end, or makes of little, is not kept.
func TestEndlessMemory(t *testing.T) {
	bomb := gzipBomb()
	for name, play := range map[string]script{
		"endless chunks":  endless(ok200+"Transfer-Encoding: chunked\r\n\r\n", "2\r\nzz\r\n"),
		"endless body":    endless(ok200+"\r\n", "z"),
		"endless headers": endless(ok200, "A: b\r\n"),
		"endless header":  endless(ok200+"A: ", "b"),
		"endless status":  endless("HTTP/1.1 200 ", "O"),
		"endless 1xx":     endless("", "HTTP/1.1 100 Continue\r\n\r\n"),
		"gzip bomb":       answer(ok200 + "Content-Encoding: gzip\r\n\r\n" + bomb),
		"huge headers":    answer(ok200 + headers(31<<10) + "\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, play)
			c := client(t, post.Config{})
			allocated := func() uint64 {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return m.TotalAlloc
			}
			_, _ = do(c, s.target())
			before := allocated()
			for range 50 {
				_, _ = do(c, s.target())
			}
			if grew := (allocated() - before) / 50; grew > 64<<10 {
				t.Errorf("%d bytes allocated an exchange, both ends included", grew)
			}
		})
	}
}
