package admin_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"fanout/admin"
)

func TestConnectionsTakeAnEighthOfTheDescriptors(t *testing.T) {
	t.Parallel()
	for descriptors, want := range map[uint64]int{0: 512, 64: 16, 1024: 128, 4096: 512, 1 << 20: 512, 1<<64 - 1: 512} {
		if got := admin.ConnsFor(descriptors); got != want {
			t.Errorf("of %d descriptors: %d, want %d", descriptors, got, want)
		}
	}
}

// What was: 4 200 connections with half a body held all descriptors for minutes, and /healthz did not answer.
func TestHealthIsAnsweredInAFloodOfHalfRequests(t *testing.T) {
	t.Parallel()
	base := start(t, admin.Config{Listen: "127.0.0.1:0", Token: token})
	address := strings.TrimPrefix(base, "http://")
	halves := []string{
		"", "GET /heal", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n",
		"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ntoken=half",
	}
	var held []net.Conn
	defer func() {
		for _, conn := range held {
			_ = conn.Close()
		}
	}()
	for i := range 2000 {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		must(t, err)
		held = append(held, conn)
		_, err = io.WriteString(conn, halves[i%len(halves)]) // it may have had to make room by now
		_ = err
		if i%100 == 99 {
			if status, body := get(t, base+"/healthz", nil); status != 200 {
				t.Fatalf("/healthz under %d half requests = %d %s", i+1, status, body)
			}
		}
	}
	_, metrics := get(t, base+"/metrics", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) })
	var current, dropped float64
	for line := range strings.Lines(metrics) {
		_, _ = fmt.Sscanf(line, `fanout_admin_connections{listener="operators"} %g`, &current)
		_, _ = fmt.Sscanf(line, `fanout_admin_connections_dropped_total{listener="operators"} %g`, &dropped)
	}
	if current > 512 || dropped < 1000 {
		t.Errorf("%g connections are kept, and %g made room", current, dropped)
	}
}

func TestBodyThatDoesNotComeEnds(t *testing.T) {
	t.Parallel()
	base := start(t, admin.Config{Listen: "127.0.0.1:0", Token: token})
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
	must(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\ntoken=half")
	must(t, err)
	must(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusRequestTimeout || !answer.Close {
		t.Errorf("half a body = %d, and the connection goes on: %t", answer.StatusCode, !answer.Close)
	}
}

// A connection is kept from one request to the next, with bodies and without.
func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	base := start(t, admin.Config{Listen: "127.0.0.1:0", Token: token})
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
	must(t, err)
	defer conn.Close()
	in := bufio.NewReader(conn)
	for range 3 {
		for _, request := range []string{"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "POST /none HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"} {
			_, err = io.WriteString(conn, request)
			must(t, err)
			answer, err := http.ReadResponse(in, nil)
			must(t, err)
			_, err = io.Copy(io.Discard, answer.Body)
			must(t, err)
			_ = answer.Body.Close()
		}
	}
}
