package resolve_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"fanout/dispatcher/resolve"
)

func TestParseSettings(t *testing.T) {
	const usual = "[1 5s 5 false false false false]"
	for _, tt := range []struct{ text, servers, search, options string }{
		{"", "127.0.0.1:53 [::1]:53", "", usual},
		{"nameserver 10.0.0.1\n; nameserver 10.0.0.2\n#nameserver 10.0.0.3\nnameserver fe80::1%eth0\n", "10.0.0.1:53 [fe80::1%eth0]:53", "", usual},
		{"nameserver 1.1.1.1\nnameserver 2.2.2.2\nnameserver 3.3.3.3\nnameserver 4.4.4.4", "1.1.1.1:53 2.2.2.2:53 3.3.3.3:53", "", usual},
		{"nameserver dns.example\nnameserver\nnameserver [10.0.0.1]:5353\nnameserver [::1]:54", "10.0.0.1:5353 [::1]:54", "", usual},
		{"domain example.com\nsearch a.example b.example. .", "127.0.0.1:53 [::1]:53", "a.example. b.example.", usual},
		{"search a.example\ndomain example.com", "127.0.0.1:53 [::1]:53", "example.com.", usual},
		{"options ndots:5 timeout:2 attempts:3 rotate use-vc single-request no-aaaa edns0 trust-ad", "127.0.0.1:53 [::1]:53", "", "[5 2s 3 true true true true]"},
		{"options ndots:99 timeout:99 attempts:99", "127.0.0.1:53 [::1]:53", "", "[15 30s 5 false false false false]"},
		{"options ndots:-1 timeout:0 attempts:0 ndots timeout: attempts:x", "127.0.0.1:53 [::1]:53", "", "[0 1s 1 false false false false]"},
		{"options\tsingle-request-reopen\r\nnameserver\t10.0.0.1\r\n", "10.0.0.1:53", "", "[1 5s 5 false false true false]"},
	} {
		s := resolve.ParseSettings(tt.text)
		servers, search, options := strings.Join(resolve.ServersOf(s), " "), strings.Join(resolve.SearchOf(s), " "), fmt.Sprint(resolve.OptionsOf(s))
		if servers != tt.servers || search != tt.search || options != tt.options {
			t.Errorf("%q: servers %s, search %s, options %s", tt.text, servers, search, options)
		}
	}
}

func TestCandidates(t *testing.T) {
	s := resolve.ParseSettings("search a.test b.test\noptions ndots:2")
	for host, want := range map[string]string{
		"hooks":         "hooks.a.test. hooks.b.test. hooks.",
		"hooks.x":       "hooks.x.a.test. hooks.x.b.test. hooks.x.",
		"www.example.x": "www.example.x. www.example.x.a.test. www.example.x.b.test.",
	} {
		if got := strings.Join(resolve.CandidatesOf(s, host), " "); got != want {
			t.Errorf("%s: %s", host, got)
		}
	}
	if got := resolve.CandidatesOf(s, strings.Repeat("a.", 124)+"aa"); len(got) != 1 {
		t.Errorf("a name that is too long with a domain: %d candidates", len(got))
	}
}

// FuzzParseSettings says that nothing in a resolv.conf leads to a server that is not an address, or to no server.
func FuzzParseSettings(f *testing.F) {
	f.Add("nameserver 10.0.0.1\nsearch a b\noptions ndots:5")
	f.Add("nameserver [10.0.0.1]:5353\ndomain x.\noptions timeout:99999999999999999999")
	f.Fuzz(func(t *testing.T, text string) {
		s := resolve.ParseSettings(text)
		servers := resolve.ServersOf(s)
		if len(servers) == 0 || len(servers) > 3 {
			t.Fatalf("servers %v", servers)
		}
		for _, server := range servers {
			if _, err := netip.ParseAddrPort(server); err != nil {
				t.Fatalf("server %q", server)
			}
		}
		for _, name := range resolve.CandidatesOf(s, "host.example") {
			if !strings.HasSuffix(name, ".") || len(name) > 254 {
				t.Fatalf("candidate %q", name)
			}
		}
		resolve.ParseHosts(text)
	})
}

// FuzzParseReply says that no bytes break the reading of an answer, and that none is taken for another question's.
func FuzzParseReply(f *testing.F) {
	name := dnsmessage.MustNewName("one.test.")
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, Response: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
		Answers: []dnsmessage.Resource{
			{Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.CNAMEResource{CNAME: name}},
			{Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{}},
		},
	}
	packet, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packet, uint16(7))
	f.Add(packet[:len(packet)-3], uint16(7))
	f.Fuzz(func(t *testing.T, packet []byte, id uint16) {
		addrs, ok := resolve.ParseReply(packet, id, "one.test.")
		if !ok {
			return
		}
		var p dnsmessage.Parser
		h, err := p.Start(packet)
		q, qErr := p.Question()
		if err != nil || qErr != nil || h.ID != id || !h.Response || q.Type != dnsmessage.TypeA || !strings.EqualFold(q.Name.String(), "one.test.") {
			t.Fatalf("taken: %+v, %+v", h, q)
		}
		if addrs > 32 {
			t.Fatalf("%d addresses", addrs)
		}
	})
}
