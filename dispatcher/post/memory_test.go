package post_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fanout/dispatcher/post"
)

// TestMain is also the silent receiver of TestMemory, in a process of its own so that its memory does not count.
func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv("POST_SILENT_RECEIVER")); err == nil {
		silent(n, os.Stdout)
		return
	}
	beside(8)
	m.Run()
}

// beside lets so many tests run beside each other, unless -parallel says how many: they wait for most of their time.
func beside(tests int) {
	flag.Parse()
	told := false
	flag.Visit(func(f *flag.Flag) { told = told || f.Name == "test.parallel" })
	if !told {
		if err := flag.Set("test.parallel", strconv.Itoa(tests)); err != nil {
			panic(err)
		}
	}
}

// wave is how many connections are opened at once: a listener's backlog is not endless.
const wave = 500

// silent takes requests and answers none. It prints its address, then a line for every wave of them, and ends with stdin.
func silent(n int, out io.Writer) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(out, l.Addr())
	if pair := os.Getenv("POST_SILENT_CERT"); pair != "" {
		cert, err := tls.X509KeyPair([]byte(pair), []byte(pair))
		if err != nil {
			panic(err)
		}
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}})
	}
	got := make(chan bool, n)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, ok := read(bufio.NewReader(c))
				got <- ok
				io.Copy(io.Discard, c)
			}()
		}
	}()
	go func() {
		for i := range n {
			<-got
			if (i+1)%wave == 0 {
				fmt.Fprintln(out, i+1)
			}
		}
	}()
	io.Copy(io.Discard, os.Stdin)
}

// TestMemory says what an exchange that waits for its answer costs: a stack and a connection, and no buffer. With the
// limits below, which leave room for the race detector, 10 000 of them fit the 256 MiB of DESIGN.md section 9.
func TestMemory(t *testing.T) {
	for _, tt := range []struct {
		name  string
		n     int
		tls   bool
		limit uint64 // bytes of heap and stack each
	}{
		{"plain", 2000, false, 12 << 10},
		{"TLS", 500, true, 36 << 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ca := newAuthority(t)
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), "POST_SILENT_RECEIVER="+strconv.Itoa(tt.n))
			if tt.tls {
				cmd.Env = append(cmd.Env, "POST_SILENT_CERT="+pemOf(t, ca.issue(t, nil)))
			}
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()
			defer in.Close()
			lines := bufio.NewScanner(out)
			lines.Scan()
			s := &server{addr: netip.MustParseAddrPort(lines.Text())}
			target := s.target()
			target.TLS = tt.tls
			head := requestHead(target, len(payload))

			c := client(t, post.Config{RootCAs: ca.pool, ConnectTimeout: time.Minute})
			before := inUse()
			var wg sync.WaitGroup
			var canceled atomic.Int32
			for i := range tt.n {
				if i > 0 && i%wave == 0 {
					lines.Scan()
				}
				wg.Go(func() {
					var resp post.Response
					err := c.Do(target, head, []byte(payload), time.Now().Add(time.Minute), &resp)
					if e, ok := errors.AsType[*post.Error](err); ok && e.Kind == post.Canceled {
						canceled.Add(1)
					}
				})
			}
			if !lines.Scan() {
				t.Error("not all requests came")
			}
			each := (inUse() - before) / uint64(tt.n)
			t.Logf("%d bytes each of %d in flight", each, tt.n)
			if each > tt.limit {
				t.Errorf("%d bytes each, over %d", each, tt.limit)
			}
			c.Close()
			wg.Wait()
			if n := int(canceled.Load()); n != tt.n {
				t.Errorf("%d of %d canceled", n, tt.n)
			}
		})
	}
}

// inUse is the memory that heap and stacks take, after a collection.
func inUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

func pemOf(t *testing.T, cert tls.Certificate) string {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
}
