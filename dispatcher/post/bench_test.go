//go:build unix

package post_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"fanout/dispatcher/post"
	"fanout/egress"
)

// receiver is an nginx that answers 204, in its own process so that its work does not count, or where there is none a
// loop that answers whatever it reads.
func receiver(b *testing.B) string {
	b.Helper()
	if nginx, err := exec.LookPath("nginx"); err == nil {
		return startNginx(b, nginx)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for buf := make([]byte, 4096); ; {
					if _, err := c.Read(buf); err != nil {
						return
					}
					c.Write([]byte("HTTP/1.1 204 No Content\r\n\r\n"))
				}
			}()
		}
	}()
	return l.Addr().String()
}

func startNginx(b *testing.B, nginx string) string {
	b.Helper()
	dir := b.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; worker_processes 1; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 16384; }
http { access_log off; keepalive_requests 1000000; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s;
uwsgi_temp_path %[1]s; scgi_temp_path %[1]s; server { listen %[2]s; location / { return 204; } } }`, dir, addr)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), nginx, "-c", conf, "-p", dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Wait() })
	for {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return addr
		}
		if b.Context().Err() != nil {
			b.Fatal("nginx did not start")
		}
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measure runs 64 loops; each has its own do.
func measure(b *testing.B, loop func() (do func() error)) {
	b.Helper()
	b.ReportAllocs()
	b.SetParallelism(32)
	before := cpu()
	b.RunParallel(func(pb *testing.PB) {
		for do := loop(); pb.Next(); {
			if err := do(); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/float64(b.N)/1000, "cpu-µs/op")
}

// BenchmarkKeepAlive compares with fasthttp's HostClient, the client that the targets are measured against.
func BenchmarkKeepAlive(b *testing.B) {
	addr := receiver(b)
	b.Run("post", func(b *testing.B) {
		rules, err := egress.New(egress.Config{AllowHTTP: true, AllowCIDRs: []string{"127.0.0.0/8"}})
		if err != nil {
			b.Fatal(err)
		}
		c := client(b, post.Config{Egress: rules})
		ap := netip.MustParseAddrPort(addr)
		t := egress.Target{Opened: true, Host: ap.Addr().String(), Addr: ap.Addr(), Port: ap.Port(), Path: "/hook"}
		head := fmt.Appendf(nil, "POST /hook HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nUser-Agent: fanout/dev\r\n"+
			"webhook-id: msg_2kd7tuelszbk5xh6gq3p4wyrmc\r\nAccept-Encoding: identity\r\nContent-Length: %d\r\n\r\n", addr, len(payload))
		measure(b, func() func() error {
			var resp post.Response
			return func() error {
				err := c.Do(&t, head, []byte(payload), time.Now().Add(10*time.Second), &resp)
				if err == nil && resp.Status != 204 {
					err = fmt.Errorf("status %d", resp.Status)
				}
				return err
			}
		})
	})
	b.Run("fasthttp", func(b *testing.B) {
		c := &fasthttp.HostClient{Addr: addr, MaxConns: 4096, ReadBufferSize: 32 << 10, NoDefaultUserAgentHeader: true}
		measure(b, func() func() error {
			return func() error {
				req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
				defer fasthttp.ReleaseRequest(req)
				defer fasthttp.ReleaseResponse(resp)
				req.Header.SetMethod("POST")
				req.SetRequestURI("http://" + addr + "/hook")
				req.Header.SetContentType("application/json")
				req.Header.SetUserAgent("fanout/dev")
				req.Header.Set("webhook-id", "msg_2kd7tuelszbk5xh6gq3p4wyrmc")
				req.Header.Set("Accept-Encoding", "identity")
				req.SetBodyString(payload)
				return c.DoDeadline(req, resp, time.Now().Add(10*time.Second))
			}
		})
	})
}
