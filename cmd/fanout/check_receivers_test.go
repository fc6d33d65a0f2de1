package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"fanout/dispatcher/resolve"
	"fanout/dispatcher/resolve/dnstest"
)

// check looks at what receivers are reached by: each name server, names that only the search list knows, the proxy and its
// credentials, CA roots, the clock.
func TestCheckReceivers(t *testing.T) {
	t.Parallel()
	silent := func(dnstest.Question) dnstest.Behaviour { return dnstest.Behaviour{Silent: true} }
	good, dead := dnstest.New(map[string][]string{"hook.test.": {"192.0.2.1"}, "hooks.inside.test.": {"10.0.0.1"}}), dnstest.New(nil)
	dead.Behave(silent)
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	go func() {
		for {
			c, err := proxy.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r, err := http.ReadRequest(bufio.NewReader(c))
				switch {
				case err != nil:
				case r.Header.Get("Proxy-Authorization") == "":
					_, _ = io.WriteString(c, "HTTP/1.1 407 No\r\n\r\n")
				default:
					_, _ = io.WriteString(c, "HTTP/1.1 503 No\r\n\r\n")
				}
			}()
		}
	}()
	bad := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(bad, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		servers []*dnstest.Server
		args    []string
		skew    time.Duration
		code    int
		want    []string // in the output
	}{
		"all well": {[]*dnstest.Server{good}, nil, 0, 0, []string{`ok +name server \S+ +answers in`, `ok +TLS +CA roots are there`, `ok +clock +agrees`}},
		"one server dead": {[]*dnstest.Server{dead, good}, nil, 0, 0, []string{
			`warning +name server \S+ +does not answer within 3 s`, `ok +name server`,
			`warning +host hooks +exists only with the resolver's search list, as hooks.inside.test`,
		}},
		"all servers dead":  {[]*dnstest.Server{dead}, nil, 0, 1, []string{`problem +DNS +no name server answers`}},
		"proxy wants more":  {[]*dnstest.Server{good}, []string{"--egress-proxy", "http://" + proxy.Addr().String()}, 0, 1, []string{`problem +egress proxy +.*other credentials \(407\)`}},
		"proxy takes us":    {[]*dnstest.Server{good}, []string{"--egress-proxy", "http://u:p@" + proxy.Addr().String()}, 0, 0, []string{`ok +egress proxy +takes connections`}},
		"proxy away":        {[]*dnstest.Server{good}, []string{"--egress-proxy", "http://" + nobody}, 0, 1, []string{`problem +egress proxy +.*cannot be reached: connection refused`}},
		"proxy looks up":    {[]*dnstest.Server{dead}, []string{"--egress-proxy", "http://u:p@" + proxy.Addr().String(), "--egress-proxy-names"}, 0, 0, []string{`warning +egress +proxy_names is set`}},
		"bad roots":         {[]*dnstest.Server{good}, []string{"--egress-ca-file", bad}, 0, 1, []string{`problem +TLS +egress.ca_file: .* holds no certificate`}},
		"clock is slow":     {[]*dnstest.Server{good}, nil, 7 * time.Minute, 0, []string{`warning +clock +(7m0s|6m5[0-9]s) behind that of Redis`}},
		"search list is on": {[]*dnstest.Server{good}, []string{"--egress-search"}, 0, 0, []string{`ok +name server`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "channel.email")
			w.network = resolvConf(t, tt.servers...)
			file, err := os.OpenFile(w.network.ResolvConf, os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, err = io.WriteString(file, "search inside.test\noptions ndots:5\n")
				_ = file.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			w.subscribe(t, "s", "https://hook.test/")
			w.subscribe(t, "t", "https://hooks/")
			if tt.skew != 0 {
				w.redis.SetTime(time.Now().Add(tt.skew))
			}
			code, stdout, stderr := w.fanout(t, "", append([]string{"check"}, tt.args...)...)
			if code != tt.code {
				t.Errorf("exit %d, want %d\n%s%s", code, tt.code, stdout, stderr)
			}
			for _, want := range tt.want {
				if !regexp.MustCompile(want).MatchString(stdout) {
					t.Errorf("no %s in\n%s", want, stdout)
				}
			}
			if strings.Contains(strings.Join(tt.args, " "), "search") && strings.Contains(stdout, "host hooks") {
				t.Errorf("with the search list on:\n%s", stdout)
			}
		})
	}
	t.Run("list", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "channel.email")
		w.network = resolvConf(t, good)
		if err := os.WriteFile(w.network.ResolvConf+"2", fmt.Appendf(nil, "search inside.test\n%s", readFile(t, w.network.ResolvConf)), 0o600); err != nil {
			t.Fatal(err)
		}
		w.network = resolve.Config{ResolvConf: w.network.ResolvConf + "2"}
		w.subscribe(t, "s", "https://hook.test/")
		w.subscribe(t, "t", "https://hooks/")
		code, stdout, stderr := w.fanout(t, "", "subscriptions", "list", "-o", "json")
		if code != 0 || strings.Count(stdout, "exists only with the resolver's search list, as hooks.inside.test") != 1 {
			t.Errorf("exit %d\n%s%s", code, stdout, stderr)
		}
	})
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
