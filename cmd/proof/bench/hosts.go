package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"fanout/cmd/internal/lab"
)

// hosts is the part of that name: webhooks at as many hosts, each with a certificate of its own, that each get one
// delivery a round over TLS.
func hosts(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("hosts", flag.ContinueOnError)
	ld := load{partitions: 6, spread: true}
	fs.IntVar(&ld.subscriptions, "hosts", 10_000, "hosts, each with one webhook; at most 4 million")
	pause := fs.Duration("pause", 35*time.Second, "before each round but the second: by default all kept connections have been closed then")
	w, end, err := beginProfiled(ctx, fs, args)
	if err != nil {
		return err
	}
	defer end()
	ld.events = ld.subscriptions
	receiver, err := w.httpsReceiver(ctx)
	if err != nil {
		return err
	}
	defer receiver.Kill() //nolint:errcheck // the lab ends what is left
	url, err := receiver.secureURL(ctx)
	if err != nil {
		return err
	}
	const topic = "bench.hosts"
	if err := errors.Join(w.store(ctx, ld, 0, url), w.kafka.CreateTopics(ctx, lab.Topic{Name: topic, Partitions: ld.partitions})); err != nil {
		return err
	}
	f, err := w.startReady(ctx, topic)
	if err != nil {
		return err
	}
	defer f.Kill() //nolint:errcheck // the lab ends what is left
	fmt.Fprintf(out, "%s; %d hosts with a certificate each, TLS 1.3, one delivery each in a round\n", machine(), ld.subscriptions)
	rounds := []string{"first", "at once again", "after a pause", "after a pause"}
	for i, about := range rounds {
		if i > 1 {
			if err := sleep(ctx, *pause); err != nil {
				return err
			}
		}
		if i == len(rounds)-1 {
			if err := w.profiled(f); err != nil {
				return err
			}
		}
		r, err := w.hostsRound(ctx, f, receiver, topic, ld, i+1)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%-14s  %s\n", about, &r)
	}
	return errors.Join(w.profiled(f), f.Stop(ctx), w.keepProfile(f))
}

// hostsRound is what one round came to.
type hostsRound struct {
	handshakes

	deliveries int
	took       time.Duration
	cpu        time.Duration // a delivery
	resident   int64         // bytes, at the end
}

func (r *hostsRound) String() string {
	return fmt.Sprintf("%d deliveries in %.1f s, %.0f µs CPU each; %d full handshakes, %d resumed, %d on a kept connection; resident %d MiB",
		r.deliveries, r.took.Seconds(), micros(r.cpu), r.full, r.resumed, int64(r.deliveries)-r.full-r.resumed, r.resident>>20)
}

// hostsRound produces an event for each webhook, and waits until all that have been produced so far are delivered.
func (w *world) hostsRound(ctx context.Context, f *lab.Fanout, to *httpsReceiver, topic string, ld load, round int) (r hostsRound, err error) {
	r.deliveries = ld.events
	shaken, err := to.handshakes(ctx)
	if err != nil {
		return r, err
	}
	before, err := f.Usage()
	if err != nil {
		return r, err
	}
	began := time.Now()
	if err := w.produceTo(ctx, topic, ld); err != nil {
		return r, err
	}
	waiting, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var delivered float64
	for delivered < float64(round*ld.events) {
		// Few looks: a scrape with ten thousand lanes takes as much as a hundred deliveries.
		if err := sleep(waiting, time.Second/2); err != nil || !f.Running() {
			return r, fmt.Errorf("%.0f of %d delivered: %w", delivered, round*ld.events, errors.Join(err, tail(f)))
		}
		m, err := f.Metrics(ctx)
		if err != nil {
			return r, err
		}
		delivered = m.Sum("fanout_outcomes_total", `outcome="delivered"`)
	}
	r.took = time.Since(began)
	after, err := f.Usage()
	if err != nil {
		return r, err
	}
	r.cpu, r.resident = (after.CPU-before.CPU)/time.Duration(ld.events), after.Resident
	now, err := to.handshakes(ctx)
	r.handshakes = handshakes{now.full - shaken.full, now.resumed - shaken.resumed}
	return r, err
}

// httpsReceiver is a receiver that serves HTTPS on every loopback address too.
type httpsReceiver struct{ *lab.Server }

// httpsReceiver starts one, with more arguments for it, and has what is started after it trust its authority.
func (w *world) httpsReceiver(ctx context.Context, args ...string) (*httpsReceiver, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp(w.lab.Dir(), "authority")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(folder, "ca.pem")
	s, err := w.lab.Server(ctx, receiverPart, func(addr string) []string {
		return append([]string{self, receiverPart, "-listen", addr, "-ca", file}, args...)
	})
	if err != nil {
		return nil, err
	}
	return &httpsReceiver{s}, os.Setenv("SSL_CERT_FILE", file)
}

// secureURL is the address of its HTTPS side on 127.0.0.1.
func (r *httpsReceiver) secureURL(ctx context.Context) (string, error) {
	text, err := r.Get(ctx, securePath)
	return string(text), err
}

func (r *httpsReceiver) handshakes(ctx context.Context) (h handshakes, err error) {
	text, err := r.Get(ctx, handshakesPath)
	if err != nil {
		return h, err
	}
	_, err = fmt.Sscan(string(text), &h.full, &h.resumed)
	return h, err
}

// handshakes are those of TLS that a receiver has ended.
type handshakes struct{ full, resumed int64 }

// secure is the HTTPS side of a receiver.
type secure struct {
	url           string
	full, resumed atomic.Int64
}

// listen listens for TLS on every loopback address, with one port. Each address has a certificate of its own, from an
// authority whose certificate goes to a file.
func (s *secure) listen(file string) (net.Listener, error) {
	authority, err := lab.NewCertificate()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, authority.CertPEM, 0o600); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp4", ":0") //nolint:gosec // loopbackOnly: there is no other way to listen on 127.0.0.0/8
	if err != nil {
		return nil, err
	}
	at, err := netip.ParseAddrPort(ln.Addr().String())
	if err != nil {
		return nil, err
	}
	s.url = fmt.Sprintf("https://127.0.0.1:%d", at.Port())
	var (
		mu           sync.Mutex
		certificates = make(map[netip.Addr]*tls.Certificate)
	)
	return tls.NewListener(loopbackOnly{ln}, &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			mu.Lock()
			defer mu.Unlock()
			ip := localIP(hello.Conn)
			cert := certificates[ip]
			if cert == nil {
				issued, err := authority.IssueFor(ip.AsSlice())
				if err != nil {
					return nil, err
				}
				pair, err := tls.X509KeyPair(issued.CertPEM, issued.KeyPEM)
				if err != nil {
					return nil, err
				}
				cert = &pair
				certificates[ip] = cert
			}
			return cert, nil
		},
		VerifyConnection: func(c tls.ConnectionState) error {
			if c.DidResume {
				s.resumed.Add(1)
			} else {
				s.full.Add(1)
			}
			return nil
		},
	}), nil
}

// localIP is the address that a connection came to; none for what is not TCP.
func localIP(c net.Conn) netip.Addr {
	at, _ := netip.ParseAddrPort(c.LocalAddr().String())
	return at.Addr()
}

// loopbackOnly closes at once what did not come to a loopback address.
type loopbackOnly struct{ net.Listener }

func (l loopbackOnly) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || localIP(c).IsLoopback() {
			return c, err
		}
		_ = c.Close()
	}
}
