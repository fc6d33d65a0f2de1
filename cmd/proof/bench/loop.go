package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"fanout/cmd/internal/lab"
	"fanout/dispatcher/post"
	"fanout/egress"
)

// What a delivery of the pipeline looks like on the wire: the loops send the same, ready made.
const (
	samplePath      = "/hooks/123"
	sampleBody      = `{"eventType":"OPEN","trackingId":"tracking-00000123","notificationId":"welcome-email","channel":"EMAIL","userId":"user-00000123"}`
	sampleID        = "msg_2kd7tuelszbk5xh6gq3p4wyrmc"
	sampleTimestamp = "1800000000"
	sampleSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	sampleAgent     = "fanout/1.0.0"
)

// receiverAt is what a loop sends to.
type receiverAt struct {
	url, addr string
	roots     *x509.CertPool // nil: no TLS
	closing   bool           // each request on a connection of its own
}

// tls is what a client needs to trust it.
func (r receiverAt) tls() *tls.Config {
	return &tls.Config{RootCAs: r.roots, MinVersion: tls.VersionTLS12}
}

// trusted is an nginx over TLS. From here on this process, and every one that it starts, trusts its certificate alone.
func trusted(nginx *lab.Nginx) (receiverAt, error) {
	text, err := os.ReadFile(nginx.CertFile())
	if err != nil {
		return receiverAt{}, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return receiverAt{url: nginx.TLSURL(), addr: nginx.TLSAddr(), roots: roots}, os.Setenv("SSL_CERT_FILE", nginx.CertFile())
}

// client sends one POST; each connection of a loop has its own.
type client func() error

// loop sends n POSTs through as many clients as there are connections, and says what that cost this process.
func loop(ctx context.Context, n, connections int, dial func() client) (figure, error) {
	before, err := lab.SelfUsage()
	if err != nil {
		return figure{}, err
	}
	began := time.Now()
	var (
		next   atomic.Int64
		failed atomic.Pointer[error]
		wg     sync.WaitGroup
	)
	for range connections {
		wg.Go(func() {
			send := dial()
			for next.Add(1) <= int64(n) && ctx.Err() == nil && failed.Load() == nil {
				if err := send(); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	if err := failed.Load(); err != nil {
		return figure{}, *err
	}
	if ctx.Err() != nil {
		return figure{}, context.Cause(ctx)
	}
	after, err := lab.SelfUsage()
	return newFigure(int64(n), took, after.CPU-before.CPU), err
}

// fasthttpLoop is the yardstick bare of docs/contract.md#targets: the fastest client there is, doing nothing else.
func fasthttpLoop(ctx context.Context, at receiverAt, ld load) (figure, error) {
	host := &fasthttp.HostClient{Addr: at.addr, MaxConns: ld.connections, NoDefaultUserAgentHeader: true}
	if at.roots != nil {
		host.IsTLS, host.TLSConfig = true, at.tls()
	}
	defer host.CloseIdleConnections()
	return loop(ctx, ld.deliveries(), ld.connections, func() client {
		request, response := &fasthttp.Request{}, &fasthttp.Response{}
		request.SetRequestURI(at.url + samplePath)
		request.Header.SetMethod(fasthttp.MethodPost)
		request.Header.SetContentType("application/json")
		request.Header.SetUserAgent(sampleAgent)
		request.Header.Set("webhook-id", sampleID)
		request.Header.Set("webhook-timestamp", sampleTimestamp)
		request.Header.Set("webhook-signature", sampleSignature)
		request.Header.Set("Accept-Encoding", "identity")
		if at.closing {
			request.SetConnectionClose()
		}
		body := []byte(sampleBody)
		return func() error {
			request.SetBodyRaw(body)
			if err := host.Do(request, response); err != nil {
				return err
			}
			return wantSuccess(response.StatusCode())
		}
	})
}

// postLoop is a bare loop of fanout's own client.
func postLoop(ctx context.Context, at receiverAt, ld load) (figure, error) {
	rules, err := egress.New(egress.Config{AllowHTTP: true, AllowCIDRs: []string{"127.0.0.0/8"}})
	if err != nil {
		return figure{}, err
	}
	to, err := netip.ParseAddrPort(at.addr)
	if err != nil {
		return figure{}, err
	}
	poster, err := post.New(post.Config{Egress: rules, RootCAs: at.roots})
	if err != nil {
		return figure{}, err
	}
	defer poster.Close()
	target := &egress.Target{Opened: true, Host: to.Addr().String(), Addr: to.Addr(), Port: to.Port(), Path: samplePath, TLS: at.roots != nil}
	body := []byte(sampleBody)
	head := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nUser-Agent: %s\r\n"+
		"webhook-id: %s\r\nwebhook-timestamp: %s\r\nwebhook-signature: %s\r\nAccept-Encoding: identity\r\nContent-Length: %d\r\n\r\n",
		samplePath, at.addr, sampleAgent, sampleID, sampleTimestamp, sampleSignature, len(body))
	return loop(ctx, ld.deliveries(), ld.connections, func() client { //nolint:contextcheck // an exchange has a deadline, no context
		var response post.Response
		return func() error {
			if err := poster.Do(target, head, body, time.Now().Add(10*time.Second), &response); err != nil {
				return err
			}
			return wantSuccess(response.Status)
		}
	})
}

func wantSuccess(status int) error {
	if status/100 != 2 {
		return fmt.Errorf("the receiver answered %d", status)
	}
	return nil
}

// loops is the part of that name.
func loops(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("loops", flag.ContinueOnError)
	var ld load
	ld.flags(fs)
	pairs := fs.Int("pairs", 3, "how often")
	if err := fs.Parse(args); err != nil {
		return err
	}
	l, err := lab.New()
	if err != nil {
		return err
	}
	defer l.Close()
	nginx, err := l.Nginx(ctx)
	if err != nil {
		return err
	}
	to := receiverAt{url: nginx.URL(), addr: nginx.Addr()}
	fmt.Fprintf(out, "%s; %d requests, %d connections, nginx answers 204\n", machine(), ld.events, ld.connections)
	for i := range *pairs {
		fast, err := fasthttpLoop(ctx, to, ld)
		if err != nil {
			return fmt.Errorf("fasthttp loop: %w", err)
		}
		own, err := postLoop(ctx, to, ld)
		if err != nil {
			return fmt.Errorf("post loop: %w", err)
		}
		fmt.Fprintf(out, "%d  fasthttp %6.0f/s %5.1f µs   dispatcher/post %6.0f/s %5.1f µs\n", i+1, fast.pace, micros(fast.cpu), own.pace, micros(own.cpu))
	}
	return nil
}
