package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"fanout/cmd/internal/lab"
	"fanout/webhook"
)

func TestList(t *testing.T) {
	var all, short bytes.Buffer
	for args, out := range map[string]*bytes.Buffer{"-list": &all, "-list -short": &short} {
		if err := run(t.Context(), strings.Fields(args), out); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(all.String(), "two-nodes-down") || strings.Contains(short.String(), "two-nodes-down") || !strings.Contains(short.String(), "kill") {
		t.Errorf("all:\n%sshort:\n%s", &all, &short)
	}
	if err := run(t.Context(), []string{"-scenario", "kill,nonsense"}, io.Discard); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("an unknown scenario: %v", err)
	}
}

// The same seed draws the same events, and every kind of them.
func TestDraw(t *testing.T) {
	kinds := make(map[int]int)
	one, other := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(1, 2))
	for n := range 2000 {
		topic, value := draw(one, n, false)
		again, same := draw(other, n, false)
		if topic != again || !bytes.Equal(value, same) {
			t.Fatalf("event %d differs: %s and %s", n, value, same)
		}
		kinds[len(wanted(topic, 0, int64(n), value))]++
	}
	for _, n := range []int{0, 1, 2} {
		if kinds[n] == 0 {
			t.Errorf("no event leads to %d deliveries: %v", n, kinds)
		}
	}
}

func TestWanted(t *testing.T) {
	const open = `{"accountId":"tenant-02","channel":"EMAIL","type":"OPEN","trackingId":"t","notificationId":"n","userId":"u"`
	for name, c := range map[string]struct {
		value string
		want  []string
	}{
		"two subscriptions": {open + `}`, []string{webhook.OffsetID(topicEmail, 3, 7, "main"), webhook.OffsetID(topicEmail, 3, 7, "opens")}},
		"an id":             {open + `,"id":"e-1"}`, []string{webhook.EventID("tenant-02", "EMAIL_OPEN", "e-1", "main"), webhook.EventID("tenant-02", "EMAIL_OPEN", "e-1", "opens")}},
		"ignored":           {strings.Replace(open, "OPEN", "DELIVERED", 1) + `}`, nil},
		"malformed":         {open, []string{"channel.email/3/7"}},
	} {
		if got := wanted(topicEmail, 3, 7, []byte(c.value)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// A webhook-id that differs between attempts of a delivery is a problem; the same one again is a repeat.
func TestReceipts(t *testing.T) {
	var p problems
	s := newReceipts(&p)
	began := time.Now()
	note := func(id string, delivered bool) {
		s.note(lab.Request{At: time.Now(), Path: "/a", WebhookID: id, Body: []byte(`{"trackingId":"t-1"}`)}, delivered)
	}
	note("msg_a", false)
	note("msg_a", true)
	note("msg_a", true)
	if len(p.list()) > 0 || s.counts()["msg_a"] != 2 || s.under(began, time.Now(), 0) != 3 {
		t.Errorf("%v, %v", p.list(), s.counts())
	}
	if _, ok := s.first(began); !ok {
		t.Error("no first delivery")
	}
	if _, ok := s.first(time.Now()); ok {
		t.Error("a first delivery after the last")
	}
	note("msg_b", true)
	if len(p.list()) != 1 {
		t.Errorf("%v, want one problem", p.list())
	}
}

func TestProxy(t *testing.T) {
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	go func() {
		for {
			c, err := target.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	p, err := newProxy("127.0.0.1:0", target.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	p.delay.Store(int64(30 * time.Millisecond))
	c, err := net.Dial("tcp", p.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Fatal(string(got), err)
	}
	if took := time.Since(began); took < 60*time.Millisecond {
		t.Errorf("there and back in %v", took)
	}
	p.cut()
	if _, err := c.Read(got); err == nil {
		t.Error("a connection that was cut goes on")
	}
}
