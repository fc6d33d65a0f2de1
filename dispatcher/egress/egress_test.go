package egress_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"fanout/dispatcher/egress"
)

func rules(t testing.TB, c egress.Config) *egress.Rules {
	t.Helper()
	r, err := egress.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestParseURL holds the spellings that a customer, or somebody who wants to reach what is inside, may try.
func TestParseURL(t *testing.T) {
	long := "https://example.com/" + strings.Repeat("a", egress.MaxURL)
	tests := []struct {
		url  string
		host string // of the Host header; empty where the URL is refused
		path string
		deny string // in the reason
	}{
		{url: "https://example.com/hooks", host: "example.com", path: "/hooks"},
		{url: "https://example.com", host: "example.com", path: "/"},
		{url: "HTTPS://EXAMPLE.com/A", host: "example.com", path: "/A"},
		{url: "https://example.com./x", host: "example.com", path: "/x"},
		{url: "https://example.com:443/x", host: "example.com", path: "/x"},
		{url: "https://example.com:/x", host: "example.com", path: "/x"},
		{url: "https://example.com:80/x", host: "example.com:80", path: "/x"},
		{url: "https://example.com:8443/x?a=b&c=d#frag", host: "example.com:8443", path: "/x?a=b&c=d"},
		{url: "https://example.com?a=b", host: "example.com", path: "/?a=b"},
		{url: "https://example.com/?", host: "example.com", path: "/?"},
		{url: "https://example.com/a%2Fb/%C3%A9?q=%zz", host: "example.com", path: "/a%2Fb/%C3%A9?q=%zz"},
		{url: "https://example.com/é?ü=\"<>", host: "example.com", path: "/%C3%A9?%C3%BC=%22%3C%3E"},
		{url: "https://example.com/a@b:c", host: "example.com", path: "/a@b:c"},
		{url: "https://münchen.example/x", host: "xn--mnchen-3ya.example", path: "/x"},
		{url: "https://xn--mnchen-3ya.example/x", host: "xn--mnchen-3ya.example", path: "/x"},
		{url: "https://ＥＸＡＭＰＬＥ.com/", host: "example.com", path: "/"},
		{url: "https://my_hooks.example.com/", host: "my_hooks.example.com", path: "/"},
		{url: "https://3com.com/", host: "3com.com", path: "/"},
		{url: "https://1.2.3.4.example/", host: "1.2.3.4.example", path: "/"},
		{url: "https://0xabc.example/", host: "0xabc.example", path: "/"},
		{url: "https://8.8.8.8/x", host: "8.8.8.8", path: "/x"},
		{url: "https://8.8.8.8./x", host: "8.8.8.8", path: "/x"},
		{url: "https://[2606:4700::1111]/x", host: "[2606:4700::1111]", path: "/x"},
		{url: "https://[2606:4700:0:0::1111]:8443/x", host: "[2606:4700::1111]:8443", path: "/x"},

		{url: "", deny: "https"},
		{url: "example.com/hooks", deny: "https"},
		{url: "//example.com/hooks", deny: "https"},
		{url: "http://example.com/", deny: "https"},
		{url: "ftp://example.com/", deny: "https"},
		{url: "file:///etc/passwd", deny: "https"},
		{url: "gopher://example.com/", deny: "https"},
		{url: "unix:/var/run/docker.sock", deny: "https"},
		{url: "https:example.com", deny: "cannot be read"},
		{url: "https:///hooks", deny: "no host"},
		{url: "https://./", deny: "no host"},
		{url: "https://:443/", deny: "no host"},
		{url: "https://user@example.com/", deny: "user name"},
		{url: "https://user:pass@example.com/", deny: "user name"},
		{url: "https://@example.com/", deny: "user name"},
		{url: "https://example.com:443@127.0.0.1/", deny: "user name"},
		{url: "https://example.com\\@127.0.0.1/", deny: "backslash"},
		{url: "https://example.com/\r\nHost: evil", deny: "control"},
		{url: "https://example.com/a b", deny: "space"},
		{url: " https://example.com/", deny: "space"},
		{url: "https://example.com/\x00", deny: "control"},
		{url: "https://example.com/\x7f", deny: "control"},
		{url: "https://example.com/\xff", deny: "control"},
		{url: "https://example.com/%zz", deny: "cannot be read"},
		{url: "https://exam%70le.com/", deny: "cannot be read"},
		{url: "https://%31%32%37.0.0.1/", deny: "cannot be read"},
		{url: "https://%C3%A9.example/", deny: "percent-encoded"},
		{url: "https://example..com/", deny: "valid name"},
		{url: "https://exa*mple.com/", deny: "valid name"},
		{url: "https://xn--a/", deny: "valid name"},
		{url: "https://" + strings.Repeat("a", 64) + ".com/", deny: "valid name"},
		{url: "https://" + strings.Repeat("a.", 130) + "com/", deny: "valid name"},
		{url: long, deny: "longer"},

		{url: "https://127.1/", deny: "no plain IPv4"},
		{url: "https://127.0.1/", deny: "no plain IPv4"},
		{url: "https://2130706433/", deny: "no plain IPv4"},
		{url: "https://017700000001/", deny: "no plain IPv4"},
		{url: "https://0x7f000001/", deny: "no plain IPv4"},
		{url: "https://0x7F.0.0.1/", deny: "no plain IPv4"},
		{url: "https://127.0.0.0x1/", deny: "no plain IPv4"},
		{url: "https://127.0.0.0x/", deny: "no plain IPv4"},
		{url: "https://0177.0.0.1/", deny: "no plain IPv4"},
		{url: "https://127.0.0.01/", deny: "no plain IPv4"},
		{url: "https://127.0.0.1.1/", deny: "no plain IPv4"},
		{url: "https://256.0.0.1/", deny: "no plain IPv4"},
		{url: "https://example.1/", deny: "no plain IPv4"},
		{url: "https://0/", deny: "no plain IPv4"},
		{url: "https://127。1/", deny: "no plain IPv4"},
		{url: "https://①②⑦.0.0.1/", deny: "not public"},
		{url: "https://１２７.0.0.1/", deny: "not public"},
		{url: "https://127。0。0。1/", deny: "not public"},
		{url: "https://127.0.0.1/", deny: "not public"},
		{url: "https://127.0.0.1./", deny: "not public"},
		{url: "https://10.0.0.1:8443/", deny: "not public"},
		{url: "https://0.0.0.0/", deny: "not public"},
		{url: "https://169.254.169.254/latest/meta-data/", deny: "metadata"},
		{url: "https://[::1]/", deny: "not public"},
		{url: "https://[::]/", deny: "not public"},
		{url: "https://[::ffff:127.0.0.1]/", deny: "not public"},
		{url: "https://[::ffff:7f00:1]/", deny: "not public"},
		{url: "https://[::ffff:169.254.169.254]/", deny: "metadata"},
		{url: "https://[64:ff9b::169.254.169.254]/", deny: "metadata"},
		{url: "https://[fd00:ec2::254]/", deny: "metadata"},
		{url: "https://[fe80::1%25eth0]/", deny: "zone"},
		{url: "https://[fe80::1%eth0]/", deny: "cannot be read"},
		{url: "https://[127.0.0.1]/", deny: ""},
		{url: "https://[::1/", deny: "cannot be read"},
		{url: "https://::1/", deny: ""},
		{url: "https://[v1.fe80::a]/", deny: ""},

		{url: "https://example.com:22/", deny: "port 22"},
		{url: "https://example.com:25/", deny: "port 25"},
		{url: "https://example.com:1023/", deny: "port 1023"},
		{url: "https://example.com:0/", deny: "port"},
		{url: "https://example.com:65536/", deny: "port"},
		{url: "https://example.com:-1/", deny: "cannot be read"},
		{url: "https://example.com:http/", deny: "cannot be read"},
		{url: "https://example.com:80:90/", deny: ""},
	}
	r := rules(t, egress.Config{})
	for _, tt := range tests {
		got, err := r.ParseURL(tt.url)
		if tt.host != "" {
			if err != nil || got.HostHeader != tt.host || got.Path != tt.path || !got.TLS {
				t.Errorf("%.80q: got %+v, %v; want %s %s", tt.url, got, err, tt.host, tt.path)
			}
			continue
		}
		d, ok := errors.AsType[*egress.Denied](err)
		if !ok || !strings.Contains(d.Reason, tt.deny) {
			t.Errorf("%.80q: got %+v, %v; want a refusal: …%s…", tt.url, got, err, tt.deny)
		}
		if got != (egress.Target{}) {
			t.Errorf("%.80q: refused, with a target", tt.url)
		}
	}
}

// TestParseURLParts says what a Target holds beside what is sent.
func TestParseURLParts(t *testing.T) {
	r := rules(t, egress.Config{AllowHTTP: true, Ports: []int{80, 8080}, AllowCIDRs: []string{"127.0.0.0/8", "::1/128"}})
	tests := map[string]egress.Target{
		"http://example.com/":      {Host: "example.com", Port: 80, Path: "/", HostHeader: "example.com"},
		"http://127.0.0.1:8080/x":  {Host: "127.0.0.1", Addr: netip.MustParseAddr("127.0.0.1"), Port: 8080, Path: "/x", HostHeader: "127.0.0.1:8080"},
		"https://[::1]:8080/":      {TLS: true, Host: "::1", Addr: netip.MustParseAddr("::1"), Port: 8080, Path: "/", HostHeader: "[::1]:8080"},
		"https://example.com:443/": {}, // Ports replaces the usual ones
		"https://example.com:9090": {},
	}
	for url, want := range tests {
		if got, err := r.ParseURL(url); got != want || (err == nil) != (want != egress.Target{}) {
			t.Errorf("%s: got %+v, %v", url, got, err)
		}
	}
}

// TestCheckAddr holds at least one address of every range, the ends of some, and neighbours that are public.
func TestCheckAddr(t *testing.T) {
	denied := strings.Fields(`0.0.0.0 0.1.2.3 10.0.0.0 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254
		169.254.1.1 172.16.0.1 172.31.255.255 192.0.0.1 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.168.1.1
		192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
		168.63.129.16 100.100.100.200
		:: ::1 ::2 ::8.8.8.8 ::ffff:10.0.0.1 ::ffff:127.0.0.1 64:ff9b::8.8.8.8 64:ff9b:1::1 100::1 2001::1 2001:1ff:ffff::1
		2001:db8::1 2002::1 2620:4f:8000::1 3fff::1 3fff:fff::1 5f00::1 fc00::1 fd12:3456::1 fe80::1 febf::1 fec0::1 ff02::1
		::ffff:0:10.0.0.1 fd00:ec2::254`)
	public := strings.Fields(`1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
		169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0
		223.255.255.255 168.63.129.15 168.63.129.17 ::ffff:8.8.8.8 2001:200::1 2001:4860:4860::8888 2606:4700::1111 2a00::1 2620:4f:7fff::1`)
	r := rules(t, egress.Config{})
	for _, s := range denied {
		err := r.CheckAddr(netip.MustParseAddr(s))
		if _, ok := errors.AsType[*egress.Denied](err); !ok {
			t.Errorf("%s: %v", s, err)
		} else if strings.ContainsAny(err.Error(), "0123456789:") {
			t.Errorf("%s: %q may tell the address", s, err)
		}
	}
	for _, s := range public {
		if err := r.CheckAddr(netip.MustParseAddr(s)); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, a := range []netip.Addr{{}, netip.MustParseAddr("2606:4700::1111%eth0")} {
		if r.CheckAddr(a) == nil {
			t.Errorf("%v passes", a)
		}
	}
}

// TestOpened says what allow_cidrs opens, and what nothing opens.
func TestOpened(t *testing.T) {
	tests := []struct {
		allow, deny string
		addr        string
		ok          bool
	}{
		{"10.0.0.0/8", "", "10.1.2.3", true},
		{"10.0.0.0/8", "", "::ffff:10.1.2.3", true},
		{"::ffff:10.0.0.0/104", "", "10.1.2.3", true},
		{"10.1.2.3/8", "", "10.9.9.9", true},
		{"10.0.0.0/8", "", "11.0.0.1", true},
		{"10.0.0.0/8", "", "192.168.0.1", false},
		{"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", false},
		{"10.0.0.0/8", "10.1.0.0/16", "10.2.2.3", true},
		{"", "8.8.8.0/24", "8.8.8.8", false},
		{"", "8.8.8.0/24", "::ffff:8.8.8.8", false},
		{"64:ff9b::/96", "8.8.8.0/24", "64:ff9b::8.8.8.8", false},
		{"", "2606:4700::/32", "2606:4700::1111", false},
		{"::1/128", "", "::1", true},
		{"::/0", "", "fe80::1", true},
		{"::/0", "", "10.0.0.1", false},
		{"64:ff9b::/96", "", "64:ff9b::8.8.8.8", true},
		{"64:ff9b::/96", "", "64:ff9b::10.1.2.3", false},
		{"64:ff9b::/96 10.0.0.0/8", "", "64:ff9b::10.1.2.3", true},
		{"10.0.0.0/8", "", "64:ff9b::10.1.2.3", false},
		{"64:ff9b:1::/48", "", "64:ff9b:1::10.1.2.3", false},
		{"2002::/16", "", "2002:808:808::1", true},
		{"2002::/16", "", "2002:a01:203::1", false},
		{"2002::/16 10.0.0.0/8", "", "2002:a01:203::1", true},
		{"2001::/32", "", "2001::f7f7:f7f7", true},                       // Teredo for 8.8.8.8
		{"2001::/32", "", "2001:0:4136:e378:8000:63bf:f5fe:fdfc", false}, // for 10.1.2.3
		{"::/96", "", "::10.1.2.3", false},
		{"0.0.0.0/0 ::/0", "", "127.0.0.1", true},
		{"0.0.0.0/0 ::/0", "", "::", true},

		{"0.0.0.0/0 ::/0 169.254.169.254/32", "", "169.254.169.254", false},
		{"0.0.0.0/0 ::/0", "", "169.254.170.2", false},
		{"0.0.0.0/0 ::/0", "", "168.63.129.16", false},
		{"0.0.0.0/0 ::/0", "", "100.100.100.200", false},
		{"0.0.0.0/0 ::/0", "", "fd00:ec2::254", false},
		{"0.0.0.0/0 ::/0", "", "::ffff:169.254.169.254", false},
		{"0.0.0.0/0 ::/0", "", "::169.254.169.254", false},
		{"0.0.0.0/0 ::/0", "", "::ffff:0:169.254.169.254", false},
		{"0.0.0.0/0 ::/0", "", "64:ff9b::169.254.169.254", false},
		{"0.0.0.0/0 ::/0", "", "64:ff9b::100.100.100.200", false},
		{"0.0.0.0/0 ::/0", "", "64:ff9b:1::169.254.169.254", false},
		{"0.0.0.0/0 ::/0", "", "2002:a9fe:a9fe::1", false},
		{"0.0.0.0/0 ::/0", "", "2002:a83f:8110::", false},
	}
	for _, tt := range tests {
		r := rules(t, egress.Config{AllowCIDRs: strings.Fields(tt.allow), DenyCIDRs: strings.Fields(tt.deny)})
		if err := r.CheckAddr(netip.MustParseAddr(tt.addr)); (err == nil) != tt.ok {
			t.Errorf("allow %q, deny %q: %s: %v", tt.allow, tt.deny, tt.addr, err)
		}
	}
}

// TestNewProblems says that all problems come at once, each with its key, its value and a remedy, and no password.
func TestNewProblems(t *testing.T) {
	_, err := egress.New(egress.Config{
		AllowCIDRs: []string{"10.0.0.0/8", "10.0.0.0/33", "127.0.0.1"},
		DenyCIDRs:  []string{"nonsense", "::ffff:0:0/90"},
		Ports:      []int{443, 0, 65536},
		Proxy:      "https://user:secret@proxy",
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`egress.allow_cidrs[1]: "10.0.0.0/33" is no CIDR; write it as 10.0.0.0/8`,
		`egress.allow_cidrs[2]: "127.0.0.1" is no CIDR; write it as 127.0.0.1/32`,
		`egress.deny_cidrs[0]: "nonsense" is no CIDR`,
		`egress.deny_cidrs[1]: "::ffff:0:0/90" spans more`,
		`egress.ports[1]: 0 is no port`,
		`egress.ports[2]: 65536 is no port`,
		`egress.proxy: `,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the password shows: %v", err)
	}
}

func TestProxy(t *testing.T) {
	if p := rules(t, egress.Config{}).Proxy(); p != nil {
		t.Errorf("got %+v", p)
	}
	p := rules(t, egress.Config{Proxy: "http://us%40er:pass@[::1]:3128/"}).Proxy()
	if want := (egress.Proxy{Host: "::1", Port: 3128, Authorization: "Basic dXNAZXI6cGFzcw=="}); *p != want {
		t.Errorf("got %+v", p)
	}
	for _, bad := range []string{"proxy:3128", "http://proxy", "http://proxy:0", "socks5://proxy:1", "http://:3128", "http://proxy:3128/path", "http://us\x00er@proxy:1"} {
		if _, err := egress.New(egress.Config{Proxy: bad}); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

// FuzzParseURL says that what goes out holds nothing that could end a line, and that a host which reads as a number is
// an address that was judged.
func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"https://example.com/a?b#c", "https://127。1/", "https://[::1]:8443/", "https://münchen.example/%41?é", "https://0x7f.1/"} {
		f.Add(s)
	}
	r, err := egress.New(egress.Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target, err := r.ParseURL(s)
		if err != nil {
			return
		}
		for _, c := range []byte(target.HostHeader + target.Path) {
			if c <= ' ' || c >= 0x7f {
				t.Fatalf("%q: %+v", s, target)
			}
		}
		if a, err := netip.ParseAddr(target.Host); (err == nil) != target.Addr.IsValid() || err == nil && r.CheckAddr(a) != nil {
			t.Fatalf("%q: %+v", s, target)
		}
		if !strings.HasPrefix(target.Path, "/") || target.Port == 0 {
			t.Fatalf("%q: %+v", s, target)
		}
		// What goes out is a URL again, and the same one: nothing that it was made from is left to be read otherwise.
		again, err := r.ParseURL("https://" + target.HostHeader + target.Path)
		if len(target.HostHeader+target.Path) < egress.MaxURL-8 && (err != nil || again != target) {
			t.Fatalf("%q: %+v, and again %+v, %v", s, target, again, err)
		}
	})
}
