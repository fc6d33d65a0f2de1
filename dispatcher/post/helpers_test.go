package post_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fanout/dispatcher/post"
	"fanout/dispatcher/reach"
	"fanout/egress"
)

const payload = `{"eventType":"OPEN","trackingId":"abc123","notificationId":"welcome-email","channel":"EMAIL","userId":"user-123"}`

// script plays a server on one connection; n counts connections from 1. The connection is closed when it returns.
type script func(c net.Conn, n int)

// server accepts until the test ends.
type server struct {
	addr     netip.AddrPort
	accepted atomic.Int32
}

func serve(t testing.TB, play script) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: netip.MustParseAddrPort(l.Addr().String())}
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[c] = true
			mu.Unlock()
			n := int(s.accepted.Add(1))
			wg.Go(func() {
				defer c.Close()
				play(c, n)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return s
}

func (s *server) target() *egress.Target {
	return &egress.Target{Opened: true, Host: s.addr.Addr().String(), Addr: s.addr.Addr(), Port: s.addr.Port(), Path: "/", HostHeader: s.addr.String()}
}

// open lets everything on loopback through.
func open(t testing.TB, more ...func(*egress.Config)) *egress.Rules {
	t.Helper()
	cfg := egress.Config{AllowHTTP: true, AllowCIDRs: []string{"127.0.0.0/8"}}
	for _, f := range more {
		f(&cfg)
	}
	rules, err := egress.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func client(t testing.TB, cfg post.Config) *post.Client {
	t.Helper()
	if cfg.Egress == nil {
		cfg.Egress = open(t)
	}
	c, err := post.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func requestHead(t *egress.Target, length int) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", t.Path, t.HostHeader, length)
}

// do sends the payload with a time-out of 10 s.
func do(c *post.Client, t *egress.Target) (post.Response, error) {
	return doBody(c, t, []byte(payload), 10*time.Second)
}

func doBody(c *post.Client, t *egress.Target, body []byte, timeout time.Duration) (resp post.Response, err error) {
	err = c.Do(t, requestHead(t, len(body)), body, time.Now().Add(timeout), &resp)
	return resp, err
}

// read takes one request off r; false means that there is none.
func read(r *bufio.Reader) (*http.Request, bool) {
	req, err := http.ReadRequest(r)
	if err != nil {
		return nil, false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return req, err == nil
}

// answer reads a request, writes text and closes.
func answer(text string) script {
	return func(c net.Conn, _ int) {
		if _, ok := read(bufio.NewReader(c)); ok {
			io.WriteString(c, text)
		}
	}
}

// answers does so again and again, and closes when the client does.
func answers(text string) script {
	return func(c net.Conn, _ int) {
		for r := bufio.NewReader(c); ; {
			if _, ok := read(r); !ok {
				return
			}
			io.WriteString(c, text)
		}
	}
}

// stall writes text and then nothing until the client gives up.
func stall(text string) script {
	return func(c net.Conn, _ int) {
		if _, ok := read(bufio.NewReader(c)); ok {
			io.WriteString(c, text)
			io.Copy(io.Discard, c)
		}
	}
}

// endless writes text and then more of the same until the client gives up.
func endless(text, more string) script {
	return func(c net.Conn, _ int) {
		if _, ok := read(bufio.NewReader(c)); !ok {
			return
		}
		io.WriteString(c, text)
		for chunk := bytes.Repeat([]byte(more), 1+4096/len(more)); ; {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	}
}

// drip writes text and then one byte of more every 10 ms until the client gives up.
func drip(text, more string) script {
	return func(c net.Conn, _ int) {
		if _, ok := read(bufio.NewReader(c)); !ok {
			return
		}
		io.WriteString(c, text)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			<-tick.C
			if _, err := c.Write([]byte{more[i%len(more)]}); err != nil {
				return
			}
		}
	}
}

func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}

// wantKind says that err is an *Error of that kind whose detail holds detail.
func wantKind(t *testing.T, err error, kind post.Kind, detail string) {
	t.Helper()
	e, ok := errors.AsType[*post.Error](err)
	if !ok || e.Kind != kind || !strings.Contains(e.Detail, detail) {
		t.Fatalf("got %v; want %v: …%s…", err, kind, detail)
	}
}

// asError is err as an *Error.
func asError(t *testing.T, err error) *post.Error {
	t.Helper()
	e, ok := errors.AsType[*post.Error](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	return e
}

// wantCause says what beside the receiver may be at fault.
func wantCause(t *testing.T, err error, cause reach.Cause) {
	t.Helper()
	if e, ok := errors.AsType[*post.Error](err); !ok || e.Cause != cause {
		t.Errorf("%v: cause %v, want %v", err, e.Cause, cause)
	}
}
