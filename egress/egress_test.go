package egress_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"fanout/egress"
)

func rules(t testing.TB, c egress.Config) *egress.Rules {
	t.Helper()
	r, err := egress.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// corpus is testdata/urls.json.
type corpus struct {
	Paths    []struct{ Raw, Target string }
	Accepted []struct{ URL, Host, Target string }
	Refused  []struct{ URL, Reason string }
	Denied   []string
}

func readCorpus(t testing.TB) (c corpus) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "testdata", "urls.json"))
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil || len(c.Paths) < 20 || len(c.Accepted) < 20 || len(c.Refused) < 100 || len(c.Denied) < 100 {
		t.Fatalf("testdata/urls.json: %d paths, %d accepted, %d refused, %d denied: %v", len(c.Paths), len(c.Accepted), len(c.Refused), len(c.Denied), err)
	}
	return c
}

// TestParseURL goes through the spellings that a customer, or somebody who wants to reach what is inside, may try.
func TestParseURL(t *testing.T) {
	r, c := rules(t, egress.Config{}), readCorpus(t)
	accept := func(url, host, path string) {
		got, err := r.ParseURL("acme", url)
		if err != nil || got.HostHeader != host || got.Path != path || !got.TLS {
			t.Errorf("%q: got %+v, %v; want %s %s", url, got, err, host, path)
		}
		if stored, err := r.ParseStoredURL("acme", url); err != nil || stored != got {
			t.Errorf("%q, stored: got %+v, %v; want %+v", url, stored, err, got)
		}
	}
	for _, p := range c.Paths {
		accept("https://example.com"+p.Raw, "example.com", p.Target)
	}
	for _, a := range c.Accepted {
		accept(a.URL, a.Host, a.Target)
	}
	refuse := func(url, reason string) {
		got, err := r.ParseURL("acme", url)
		d, ok := errors.AsType[*egress.Denied](err)
		if !ok || !strings.Contains(d.Reason, reason) {
			t.Errorf("%.80q: got %+v, %v; want a refusal: …%s…", url, got, err, reason)
		}
		if got != (egress.Target{}) {
			t.Errorf("%.80q: refused, with a target", url)
		}
	}
	for _, bad := range c.Refused {
		refuse(bad.URL, bad.Reason)
	}
	refuse("https://example.com/\xff", "not UTF-8") // JSON cannot say that
	refuse("https://example.com/"+strings.Repeat("a", egress.MaxURL), "longer")
}

// TestDeniedURLs says that no spelling of a loopback, private or metadata address passes, whatever is opened besides.
// Names are judged when they have been looked up.
func TestDeniedURLs(t *testing.T) {
	r := rules(t, egress.Config{AllowHTTP: true, AllowCIDRs: []string{"127.0.0.2/32"}})
	for _, url := range readCorpus(t).Denied {
		url = strings.ReplaceAll(url, "PORT", "8080")
		got, err := r.ParseStoredURL("acme", url)
		isName := !got.Addr.IsValid() && (strings.HasSuffix(got.Host, ".test") || got.Host == "localhost")
		if err == nil && !isName {
			t.Errorf("%q passes: %+v", url, got)
		}
	}
}

// TestParseStoredURL says that what was taken before the rules became stricter is still sent, as it was before.
func TestParseStoredURL(t *testing.T) {
	r := rules(t, egress.Config{})
	for url, target := range map[string]string{
		"https://example.com/x?q=%zz&r=100%": "/x?q=%zz&r=100%",
		"https://example.com/x\u200b?\u00a0": "/x%E2%80%8B?%C2%A0",
		"https://exam\u00adple.com/x":        "/x",
	} {
		got, err := r.ParseStoredURL("acme", url)
		if err != nil || got.Path != target || got.Host != "example.com" {
			t.Errorf("%q, stored: got %+v, %v", url, got, err)
		}
		if _, err := r.ParseURL("acme", url); err == nil {
			t.Errorf("%q passes when it is written", url)
		}
	}
	for _, url := range []string{"https://example.com/%zz", "https://example.com/a b", "https://example.com/\x00", "https://10.0.0.1/"} {
		if got, err := r.ParseStoredURL("acme", url); err == nil {
			t.Errorf("%q, stored: got %+v", url, got)
		}
	}
}

// TestParseURLParts says what a Target holds beside what is sent.
func TestParseURLParts(t *testing.T) {
	r := rules(t, egress.Config{AllowHTTP: true, Ports: []int{80, 8080}, AllowCIDRs: []string{"127.0.0.0/8", "::1/128"}})
	tests := map[string]egress.Target{
		"http://example.com/":      {Host: "example.com", Port: 80, Path: "/", HostHeader: "example.com", Opened: true},
		"http://127.0.0.1:8080/x":  {Host: "127.0.0.1", Addr: netip.MustParseAddr("127.0.0.1"), Port: 8080, Path: "/x", HostHeader: "127.0.0.1:8080", Opened: true},
		"http://hooks.:8080/":      {Host: "hooks", Rooted: true, Port: 8080, Path: "/", HostHeader: "hooks:8080", Opened: true},
		"https://[::1]:8080/":      {TLS: true, Host: "::1", Addr: netip.MustParseAddr("::1"), Port: 8080, Path: "/", HostHeader: "[::1]:8080", Opened: true},
		"https://example.com:443/": {}, // Ports replaces the usual ones
		"https://example.com:9090": {},
	}
	for url, want := range tests {
		if got, err := r.ParseURL("acme", url); got != want || (err == nil) != (want != egress.Target{}) {
			t.Errorf("%s: got %+v, %v", url, got, err)
		}
	}
}

// TestCheckAddr holds at least one address of every range, the ends of some, and neighbours that are public.
func TestCheckAddr(t *testing.T) {
	denied := strings.Fields(`0.0.0.0 0.1.2.3 10.0.0.0 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254
		169.254.1.1 172.16.0.1 172.31.255.255 192.0.0.1 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.168.1.1
		192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
		168.63.129.16 100.100.100.200 192.0.0.192
		:: ::1 ::2 ::8.8.8.8 ::ffff:10.0.0.1 ::ffff:127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::127.0.0.1 64:ff9b::0 64:ff9b:1::1 64:ff9b:1::8.8.8.8 100::1 2001::1 2001:1ff:ffff::1
		2001:db8::1 2002::1 2620:4f:8000::1 3fff::1 3fff:fff::1 5f00::1 fc00::1 fd12:3456::1 fe80::1 febf::1 fec0::1 ff02::1
		::ffff:0:10.0.0.1 fd00:ec2::254`)
	public := strings.Fields(`1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
		169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0
		223.255.255.255 168.63.129.15 168.63.129.17 ::ffff:8.8.8.8 2001:200::1 2001:4860:4860::8888 2606:4700::1111 2a00::1 2620:4f:7fff::1
		64:ff9b::8.8.8.8 64:ff9b::101:101 2606:4700::5efe:8.8.8.8 2606:4700::5efe:10.0.0.1`)
	r := rules(t, egress.Config{})
	for _, s := range denied {
		err := r.CheckAddr(netip.MustParseAddr(s), true)
		if _, ok := errors.AsType[*egress.Denied](err); !ok {
			t.Errorf("%s: %v", s, err)
		} else if strings.ContainsAny(err.Error(), "0123456789:") {
			t.Errorf("%s: %q may tell the address", s, err)
		}
	}
	for _, s := range public {
		if err := r.CheckAddr(netip.MustParseAddr(s), true); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, a := range []netip.Addr{{}, netip.MustParseAddr("2606:4700::1111%eth0")} {
		if r.CheckAddr(a, true) == nil {
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
		{"10.0.0.0/8", "", "64:ff9b::10.1.2.3", true}, // judged by the IPv4 address in it
		{"", "", "64:ff9b::10.1.2.3", false},
		{"", "64:ff9b::/96", "64:ff9b::8.8.8.8", false},
		{"64:ff9b:1::/48", "", "64:ff9b:1::10.1.2.3", false},
		{"64:ff9b:1::/48", "", "64:ff9b:1::8.8.8.8", true},
		{"64:ff9b:1::/48", "", "64:ff9b:1:808:8:800::", true}, // 8.8.8.8 as RFC 6052 has it for a /48
		{"64:ff9b:1::/48", "", "64:ff9b:1:a01:2:300::", false},
		{"64:ff9b:1::/48 10.0.0.0/8", "", "64:ff9b:1:a01:2:300::", true},
		{"10.0.0.0/8", "", "64:ff9b:1:a01:2:300::", false},
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
		{"0.0.0.0/0 ::/0", "", "fd00:ec2:1::1", false},
		{"0.0.0.0/0 ::/0", "", "fd20:ce::254", false},
		{"0.0.0.0/0 ::/0", "", "fd00:c1::a9fe:a9fe", false},
		{"0.0.0.0/0 ::/0", "", "fd00:42::42", false},
		{"0.0.0.0/0 ::/0", "", "fe80::a9fe:a9fe", false},
		{"0.0.0.0/0 ::/0", "", "192.0.0.192", false},
		{"0.0.0.0/0 ::/0", "", "::ffff:169.254.169.254", false},
		{"0.0.0.0/0 ::/0", "", "::169.254.169.254", false},
		{"0.0.0.0/0 ::/0", "", "::ffff:0:169.254.169.254", false},
		{"0.0.0.0/0 ::/0", "", "64:ff9b::169.254.169.254", false},
		{"0.0.0.0/0 ::/0", "", "64:ff9b::100.100.100.200", false},
		{"0.0.0.0/0 ::/0", "", "64:ff9b:1::169.254.169.254", false},
		{"0.0.0.0/0 ::/0", "", "64:ff9b:1:a9fe:a9:fe00::", false},   // RFC 6052 for a /48
		{"0.0.0.0/0 ::/0", "", "64:ff9b:1:a9:fe:a9fe::", false},     // a /56
		{"0.0.0.0/0 ::/0", "", "64:ff9b:1:0:a9:fea9:fe00:0", false}, // a /64
		{"0.0.0.0/0 ::/0", "", "2606:4700::5efe:169.254.169.254", false},
		{"0.0.0.0/0 ::/0", "", "2606:4700::200:5efe:169.254.169.254", false},
		{"0.0.0.0/0 ::/0", "", "fe80::5efe:169.254.169.254", false},
		{"0.0.0.0/0 ::/0", "", "2001:0:a9fe:a9fe::1", false}, // a Teredo server
		{"0.0.0.0/0 ::/0", "", "2002:a9fe:a9fe::1", false},
		{"0.0.0.0/0 ::/0", "", "2002:a83f:8110::", false},
	}
	for _, tt := range tests {
		r := rules(t, egress.Config{AllowCIDRs: strings.Fields(tt.allow), DenyCIDRs: strings.Fields(tt.deny)})
		if err := r.CheckAddr(netip.MustParseAddr(tt.addr), true); (err == nil) != tt.ok {
			t.Errorf("allow %q, deny %q: %s: %v", tt.allow, tt.deny, tt.addr, err)
		}
	}
}

// TestAllowAccounts says that what is opened is open to the named accounts only, where any are named, and that nothing else
// changes for them (docs/contract.md#allow-accounts).
func TestAllowAccounts(t *testing.T) {
	r := rules(t, egress.Config{AllowCIDRs: []string{"10.0.0.0/8", "169.254.0.0/16"}, DenyCIDRs: []string{"10.9.0.0/16"}, Accounts: []string{"acme", "ours"}})
	tests := map[string]struct{ named, others bool }{
		"https://10.1.2.3/":                {true, false},
		"https://[::ffff:10.1.2.3]/":       {true, false},
		"https://[64:ff9b::a01:203]/":      {true, false},
		"https://8.8.8.8/":                 {true, true},
		"https://hooks.example.com/":       {true, true},
		"https://10.9.0.1/":                {false, false},
		"https://169.254.169.254/latest":   {false, false},
		"https://192.168.0.1/never-opened": {false, false},
	}
	for url, want := range tests {
		for account, open := range map[string]bool{"acme": want.named, "ours": want.named, "globex": want.others, "Acme": want.others, "": want.others} {
			for what, parse := range map[string]func(account, raw string) (egress.Target, error){"written": r.ParseURL, "stored": r.ParseStoredURL} {
				target, err := parse(account, url)
				if (err == nil) != open {
					t.Errorf("%s, %s, for %q: %v", url, what, account, err)
				}
				if named := account == "acme" || account == "ours"; err == nil && target.Opened != named {
					t.Errorf("%s, %s, for %q: opened %t", url, what, account, target.Opened)
				}
			}
		}
	}
	for _, opened := range []bool{true, false} {
		if err := r.CheckAddr(netip.MustParseAddr("10.1.2.3"), opened); (err == nil) != opened {
			t.Errorf("opened %t: %v", opened, err)
		}
	}
	if target, err := rules(t, egress.Config{AllowCIDRs: []string{"10.0.0.0/8"}}).ParseURL("globex", "https://10.1.2.3/"); err != nil || !target.Opened {
		t.Errorf("with no account named: %v", err)
	}
}

// TestNewProblems says that all problems come at once, each with its key, its value and a remedy, and no password.
func TestNewProblems(t *testing.T) {
	_, err := egress.New(egress.Config{
		AllowCIDRs: []string{"10.0.0.0/8", "10.0.0.0/33", "127.0.0.1"},
		Accounts:   []string{"acme", "", "a\nb", strings.Repeat("x", 257)},
		DenyCIDRs:  []string{"nonsense", "::ffff:0:0/90"},
		Ports:      []int{443, 0, 65536},
		Proxy:      "https://user:secret@proxy",
		ProxyNames: true, ClientCertFile: "cert.pem",
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`egress.allow_cidrs[1]: "10.0.0.0/33" is not a CIDR; write it as 10.0.0.0/8`,
		`egress.allow_cidrs[2]: "127.0.0.1" is not a CIDR; write it as 127.0.0.1/32`,
		`egress.allow_accounts[1]: "" is not an account id; write 1 to 256 bytes without control characters`,
		`egress.allow_accounts[2]: "a\nb" is not an account id`,
		`egress.allow_accounts[3]: "xxx`,
		`egress.deny_cidrs[0]: "nonsense" is not a CIDR`,
		`egress.deny_cidrs[1]: "::ffff:0:0/90" spans more`,
		`egress.ports[1]: 0 is not a port`,
		`egress.ports[2]: 65536 is not a port`,
		`egress.proxy: "proxy:" has no port; write it as https://host:port`,
		`egress.client_cert_file: a certificate needs its key`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the password shows: %v", err)
	}
	if _, err := egress.New(egress.Config{ProxyNames: true}); err == nil || !strings.Contains(err.Error(), "egress.proxy_names: there is no proxy") {
		t.Errorf("names for no proxy: %v", err)
	}
}

func TestProxy(t *testing.T) {
	if p := rules(t, egress.Config{}).Proxy(); p != nil {
		t.Errorf("got %+v", p)
	}
	for _, tt := range []struct {
		config egress.Config
		want   egress.Proxy
	}{
		{egress.Config{Proxy: "http://us%40er:pass@[::1]:3128/"}, egress.Proxy{Host: "::1", Port: 3128, Authorization: "Basic dXNAZXI6cGFzcw=="}},
		{egress.Config{Proxy: "https://proxy:8443", ProxyNames: true}, egress.Proxy{TLS: true, Host: "proxy", Port: 8443, Names: true}},
	} {
		if p := rules(t, tt.config).Proxy(); *p != tt.want {
			t.Errorf("got %+v", p)
		}
	}
	for _, bad := range []string{"proxy:3128", "http://proxy", "https://proxy", "http://proxy:0", "socks5://proxy:1", "http://:3128", "http://proxy:3128/path", "http://us\x00er@proxy:1"} {
		if _, err := egress.New(egress.Config{Proxy: bad}); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

// FuzzParseURL says that what goes out holds nothing that could end a line, means what was written, and that a host which
// reads as a number is an address that was judged.
func FuzzParseURL(f *testing.F) {
	c := readCorpus(f)
	for _, p := range c.Paths {
		f.Add("https://example.com" + p.Raw)
	}
	for _, a := range c.Accepted {
		f.Add(a.URL)
	}
	r := rules(f, egress.Config{})
	f.Fuzz(func(t *testing.T, s string) {
		target, err := r.ParseURL("acme", s)
		if err != nil {
			return
		}
		for _, c := range []byte(target.HostHeader + target.Path) {
			if c <= ' ' || c >= 0x7f {
				t.Fatalf("%q: %+v", s, target)
			}
		}
		if a, err := netip.ParseAddr(target.Host); (err == nil) != target.Addr.IsValid() || err == nil && r.CheckAddr(a, true) != nil {
			t.Fatalf("%q: %+v", s, target)
		}
		if !strings.HasPrefix(target.Path, "/") || target.Port == 0 {
			t.Fatalf("%q: %+v", s, target)
		}
		// The bytes that it stands for are those of what was written, and an escape stays the very escape.
		written, _, _ := strings.Cut(s, "#")
		_, written, _ = strings.Cut(written, "://")
		if i := strings.IndexAny(written, "/?"); i >= 0 {
			written = strings.TrimPrefix(written[i:], "/")
		} else {
			written = ""
		}
		sent := strings.TrimPrefix(target.Path, "/")
		if meantBy(sent) != meantBy(written) || escapes(sent) != escapes(written) && isASCII(written) && !strings.ContainsAny(written, `"<>[]^{|}`+"`") {
			t.Fatalf("%q: %q became %q", s, written, sent)
		}
		// What goes out is a URL again, and the same one: nothing that it was made from is left to be read otherwise.
		again, err := r.ParseURL("acme", "https://"+target.HostHeader+target.Path)
		target.Rooted = false // the Host header has no dot at its end
		if len(target.HostHeader+target.Path) < egress.MaxURL-8 && (err != nil || again != target) {
			t.Fatalf("%q: %+v, and again %+v, %v", s, target, again, err)
		}
	})
}

// meantBy is what path and query stand for, with all escapes decoded.
func meantBy(s string) string {
	text, err := url.PathUnescape(s)
	if err != nil {
		return err.Error()
	}
	return text
}

// escapes is the escapes of s, as they are written.
func escapes(s string) string {
	return strings.Join(regexp.MustCompile("%..").FindAllString(s, -1), " ")
}

func isASCII(s string) bool { return !strings.ContainsFunc(s, func(c rune) bool { return c >= 0x80 }) }
