package post_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fanout/dispatcher/post"
)

const ok2 = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

// TestReuse sends two requests and says how many connections they took, and that the second is not answered by what was
// left of the first.
func TestReuse(t *testing.T) {
	tests := []struct {
		name  string
		first string
		conns int32
	}{
		{"length", ok2, 1},
		{"length zero", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 1},
		{"64 KiB", "HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n" + strings.Repeat("z", 65536), 1},
		{"over 64 KiB", "HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n" + strings.Repeat("z", 65537), 2},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 1},
		{"chunked with trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nA: b\r\n\r\n", 1},
		{"204", "HTTP/1.1 204 No\r\n\r\n", 1},
		{"304 with a length", "HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", 1},
		{"500", "HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno", 1},
		{"interim first", "HTTP/1.1 100 Continue\r\n\r\n" + ok2, 1},
		{"headers of 30 KB", "HTTP/1.1 200 OK\r\n" + headers(30000) + "Content-Length: 2\r\n\r\nhi", 1},
		{"a header over a block", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 4096) + "\r\nContent-Length: 2\r\n\r\nhi", 2},
		{"LF only", "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", 1},
		{"keep-alive of 1.0", "HTTP/1.0 200 OK\r\nConnection: x, Keep-Alive\r\nContent-Length: 2\r\n\r\nhi", 1},
		{"1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 2},
		{"close", "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nhi", 2},
		{"close in a list", "HTTP/1.1 200 OK\r\nConnection: x, close\r\nContent-Length: 2\r\n\r\nhi", 2},
		{"both lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 2},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", 2},
		{"no length, kept open", "HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("z", 1024), 2},
		{"garbage behind the body", ok2 + "garbage", 2},
		{"a second response", ok2 + "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", 2},
		{"204 with a body", "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello", 2},
		{"204 with a response for a body", "HTTP/1.1 204 No\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", 2},
		{"folded length", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nhi", 2},
		{"coding that is not known", "HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\nContent-Length: 2\r\n\r\nhi", 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			s := serve(t, func(c net.Conn, _ int) {
				for r := bufio.NewReader(c); ; {
					if _, ok := read(r); !ok {
						return
					}
					if requests.Add(1) == 1 {
						io.WriteString(c, tt.first)
					} else {
						io.WriteString(c, "HTTP/1.1 202 OK\r\nContent-Length: 6\r\n\r\nsecond")
					}
				}
			})
			c := client(t, post.Config{})
			if _, err := do(c, s.target()); err != nil {
				t.Fatal(err)
			}
			resp, err := do(c, s.target())
			if err != nil || resp.Status != 202 || string(resp.Body) != "second" {
				t.Fatalf("second: %d %q, %v", resp.Status, resp.Body, err)
			}
			if n := s.accepted.Load(); n != tt.conns {
				t.Errorf("%d connections, want %d", n, tt.conns)
			}
		})
	}
}

// TestClosedOnReuse says what happens when a kept connection fails the second request: one more try where nothing came
// back, none where something did.
func TestClosedOnReuse(t *testing.T) {
	tests := []struct {
		name   string
		second script // on the first connection, once the second request is there
		status int    // of the second exchange; 0 is an error
		conns  int32
	}{
		{"closed", func(net.Conn, int) {}, 200, 2},
		{"reset", func(c net.Conn, _ int) { reset(c) }, 200, 2},
		{"closed in the status line", func(c net.Conn, _ int) { io.WriteString(c, "HTTP/1.1 2") }, 0, 1},
		{"garbage", func(c net.Conn, _ int) { io.WriteString(c, "garbage\n") }, 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, func(c net.Conn, n int) {
				r := bufio.NewReader(c)
				for range 2 {
					read(r)
					if _, err := io.WriteString(c, ok2); err != nil {
						return
					}
					if n == 1 {
						read(r)
						tt.second(c, n)
						return
					}
				}
			})
			c := client(t, post.Config{})
			if _, err := do(c, s.target()); err != nil {
				t.Fatal(err)
			}
			resp, err := do(c, s.target())
			if tt.status == 0 {
				wantKind(t, err, post.Connection, "")
			} else if err != nil || resp.Status != tt.status {
				t.Errorf("second: %d, %v", resp.Status, err)
			}
			if n := s.accepted.Load(); n != tt.conns {
				t.Errorf("%d connections, want %d", n, tt.conns)
			}
		})
	}
}

// TestRetriedOnce says that the new connection's failure counts.
func TestRetriedOnce(t *testing.T) {
	s := serve(t, func(c net.Conn, n int) {
		r := bufio.NewReader(c)
		read(r)
		if n == 1 {
			io.WriteString(c, ok2)
			read(r)
		}
	})
	c := client(t, post.Config{})
	if _, err := do(c, s.target()); err != nil {
		t.Fatal(err)
	}
	_, err := do(c, s.target())
	wantKind(t, err, post.Connection, "closed")
	if n := s.accepted.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// TestTimeoutIsNotRetried says that a kept connection that does not answer costs the deadline once.
func TestTimeoutIsNotRetried(t *testing.T) {
	s := serve(t, func(c net.Conn, _ int) {
		read(bufio.NewReader(c))
		io.WriteString(c, ok2)
		io.Copy(io.Discard, c)
	})
	c := client(t, post.Config{})
	if _, err := do(c, s.target()); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, err := doBody(c, s.target(), []byte(payload), 200*time.Millisecond)
	wantKind(t, err, post.Timeout, "no answer within 200ms")
	if took := time.Since(start); took < 200*time.Millisecond || took > 700*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	if n := s.accepted.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestDeadlineAfterShorterOne says that the deadline of an exchange before does not cut the next one short, although the
// poller still holds it.
func TestDeadlineAfterShorterOne(t *testing.T) {
	s := serve(t, func(c net.Conn, _ int) {
		r := bufio.NewReader(c)
		read(r)
		io.WriteString(c, ok2)
		read(r)
		<-time.NewTimer(300 * time.Millisecond).C
		io.WriteString(c, ok2)
	})
	c := client(t, post.Config{})
	for _, timeout := range []time.Duration{200 * time.Millisecond, time.Second} {
		if _, err := doBody(c, s.target(), []byte(payload), timeout); err != nil {
			t.Fatalf("within %v: %v", timeout, err)
		}
	}
	if n := s.accepted.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestIdleLimits says that no more than the limit stay open, that unused ones are closed, and that a host leaves nothing.
func TestIdleLimits(t *testing.T) {
	closed := make(chan struct{}, 16)
	arrived, gate := make(chan struct{}), make(chan struct{})
	s := serve(t, func(c net.Conn, _ int) {
		read(bufio.NewReader(c))
		arrived <- struct{}{}
		<-gate
		io.WriteString(c, ok2)
		io.Copy(io.Discard, c)
		closed <- struct{}{}
	})
	for name, cfg := range map[string]post.Config{
		"per host": {MaxIdlePerHost: 2, IdleTimeout: 500 * time.Millisecond},
		"total":    {MaxIdle: 2, IdleTimeout: 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, cfg)
			done := make(chan error, 4)
			for range 4 {
				go func() { _, err := do(c, s.target()); done <- err }()
			}
			for range 4 { // all are under way: none has a connection of another to use
				<-arrived
			}
			for range 4 {
				gate <- struct{}{}
			}
			for range 4 {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			<-closed
			<-closed
			if idle, hosts := c.Idle(); idle != 2 || hosts != 1 {
				t.Errorf("%d idle connections of %d hosts", idle, hosts)
			}
			<-closed
			<-closed
			for {
				if _, hosts := c.Idle(); hosts == 0 {
					break
				}
				<-time.NewTimer(10 * time.Millisecond).C
			}
		})
	}
}

// TestClose says that Close ends what is in flight, at once and as Canceled, and that nothing is sent after it.
func TestClose(t *testing.T) {
	reading := make(chan struct{}, 2)
	s := serve(t, func(c net.Conn, _ int) {
		read(bufio.NewReader(c))
		reading <- struct{}{}
		io.Copy(io.Discard, c)
	})
	c := client(t, post.Config{})
	done := make(chan error, 1)
	go func() { _, err := do(c, s.target()); done <- err }()
	<-reading
	c.Close()
	wantKind(t, <-done, post.Canceled, "")
	_, err := do(c, s.target())
	wantKind(t, err, post.Canceled, "")
	if n := s.accepted.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	c.Close()
}

// TestRequest says what goes out: head and body as given, also where they are longer than a block.
func TestRequest(t *testing.T) {
	got := make(chan string, 1)
	s := serve(t, func(c net.Conn, _ int) {
		for r := bufio.NewReader(c); ; {
			req, ok := read(r)
			if !ok {
				return
			}
			got <- req.Method + " " + req.URL.Path + " " + req.Header.Get("Content-Type") + " " + req.Header.Get("Content-Length")
			io.WriteString(c, "HTTP/1.1 503 Busy\r\nretry-after:  120 \r\nContent-Length: 0\r\n\r\n")
		}
	})
	c := client(t, post.Config{})
	for _, n := range []int{0, 100, 4096, 1 << 20, 100} {
		resp, err := doBody(c, s.target(), make([]byte, n), 10*time.Second)
		if err != nil || resp.Status != 503 || resp.RetryAfter != "120" {
			t.Fatalf("%d bytes: %+v, %v", n, resp, err)
		}
		if line := <-got; !strings.HasPrefix(line, "POST / application/json") {
			t.Errorf("got %s", line)
		}
	}
	if n := s.accepted.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestResponseIsReset says that nothing of the response before shows.
func TestResponseIsReset(t *testing.T) {
	first := true
	s := serve(t, func(c net.Conn, _ int) {
		for r := bufio.NewReader(c); ; first = false {
			if _, ok := read(r); !ok {
				return
			}
			if first {
				io.WriteString(c, "HTTP/1.1 429 Slow\r\nRetry-After: 1\r\nContent-Length: 4\r\n\r\nslow")
			} else {
				io.WriteString(c, "HTTP/1.1 204 No\r\n\r\n")
			}
		}
	})
	c := client(t, post.Config{})
	var resp post.Response
	for range 2 {
		if err := c.Do(s.target(), requestHead(s.target(), 0), nil, time.Now().Add(time.Second), &resp); err != nil {
			t.Fatal(err)
		}
	}
	if resp.Status != 204 || resp.RetryAfter != "" || len(resp.Body) != 0 || cap(resp.Body) == 0 {
		t.Errorf("got %+v", resp)
	}
}

// TestPoison says that what a server sends between two exchanges does not answer the second one.
func TestPoison(t *testing.T) {
	idle, sent := make(chan struct{}), make(chan struct{})
	s := serve(t, func(c net.Conn, n int) {
		r := bufio.NewReader(c)
		read(r)
		io.WriteString(c, ok2)
		if n == 1 {
			<-idle
			io.WriteString(c, "HTTP/1.1 299 Poison\r\nContent-Length: 0\r\n\r\n")
			close(sent)
		}
		io.Copy(io.Discard, c)
	})
	c := client(t, post.Config{})
	if _, err := do(c, s.target()); err != nil {
		t.Fatal(err)
	}
	close(idle)
	<-sent
	if resp, err := do(c, s.target()); err != nil || resp.Status != 200 {
		t.Errorf("got %d, %v", resp.Status, err)
	}
}

// TestNoTimeLeft says that nothing is sent after the deadline.
func TestNoTimeLeft(t *testing.T) {
	s := serve(t, answers(ok2))
	_, err := doBody(client(t, post.Config{}), s.target(), []byte(payload), -time.Second)
	wantKind(t, err, post.Timeout, "no time left")
	if n := s.accepted.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}
