package lab

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
)

// Nginx answers requests with 204, cheaply, and counts them: the receiver of the bench. Below the paths /failing/1,
// /failing/10 and /failing/20 that percentage of webhook-ids gets 503, each one always.
type Nginx struct {
	*Process

	port, tls, status int
	polls             atomic.Int64 // requests that Requests itself made
}

// One process, no workers: nothing is left behind when it is killed, and its CPU is that of one process. It carries
// more than fanout and a broker leave of two cores.
const nginxConf = `
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
worker_rlimit_nofile %[3]d;
events { worker_connections 16384; }
http {
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  split_clients "$http_webhook_id" $failing1 { 1%% 1; * 0; }
  split_clients "$http_webhook_id" $failing10 { 10%% 1; * 0; }
  split_clients "$http_webhook_id" $failing20 { 20%% 1; * 0; }
  ssl_certificate cert.pem;
  ssl_certificate_key key.pem;
  ssl_session_cache shared:sessions:4m;
  server {
    listen 127.0.0.1:%[1]d backlog=4096;
    listen 127.0.0.1:%[4]d ssl backlog=4096;
    location / { return 204; }
    location /failing/1/ { if ($failing1) { return 503; } return 204; }
    location /failing/10/ { if ($failing10) { return 503; } return 204; }
    location /failing/20/ { if ($failing20) { return 503; } return 204; }
  }
  server {
    listen 127.0.0.1:%[2]d;
    location / { stub_status; }
  }
}
`

// Nginx starts an nginx and returns when it answers. ctx bounds the start.
func (l *Lab) Nginx(ctx context.Context) (*Nginx, error) {
	program, err := tool("nginx")
	if err != nil {
		return nil, err
	}
	dir, err := l.subdir("nginx")
	if err != nil {
		return nil, err
	}
	n := &Nginx{Process: l.process("nginx", dir, program, "-p", dir, "-e", "stderr", "-c", "nginx.conf")}
	if n.port, err = freePort(); err != nil {
		return nil, err
	}
	if n.status, err = freePort(); err != nil {
		return nil, err
	}
	if n.tls, err = freePort(); err != nil {
		return nil, err
	}
	certificate, err := NewCertificate()
	if err != nil {
		return nil, err
	}
	for path, text := range map[string][]byte{n.CertFile(): certificate.CertPEM, filepath.Join(dir, "key.pem"): certificate.KeyPEM} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return nil, err
		}
	}
	const files = 20000 // more than its connections
	conf := fmt.Sprintf(nginxConf, n.port, n.status, files, n.tls)
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o600); err != nil {
		return nil, err
	}
	return n, n.Start(ctx)
}

// Start starts an nginx that was stopped or killed, on its own port. It counts from 0 again.
func (n *Nginx) Start(ctx context.Context) error {
	if err := n.start(); err != nil {
		return err
	}
	n.polls.Store(0)
	return n.ready(ctx, func() bool {
		_, err := n.Requests(ctx)
		return err == nil
	})
}

// Addr is host:port of the receiver.
func (n *Nginx) Addr() string { return loopback(n.port) }

// URL is Addr as an address to POST to, without a path.
func (n *Nginx) URL() string { return "http://" + n.Addr() }

// TLSAddr is the receiver's address for TLS, with a certificate for a P-256 key that CertFile holds.
func (n *Nginx) TLSAddr() string { return loopback(n.tls) }

// TLSURL is TLSAddr as an address to POST to, without a path.
func (n *Nginx) TLSURL() string { return "https://" + n.TLSAddr() }

// CertFile is the path of the certificate, which is its own authority.
func (n *Nginx) CertFile() string { return filepath.Join(n.dir, "cert.pem") }

// Requests is how many requests the receiver has answered since it was started.
func (n *Nginx) Requests(ctx context.Context) (int64, error) {
	text, err := get(ctx, "http://"+loopback(n.status))
	if err != nil {
		return 0, err
	}
	n.polls.Add(1)
	var active, accepts, handled, requests int64
	_, err = fmt.Sscanf(string(text), "Active connections: %d\nserver accepts handled requests\n%d %d %d", &active, &accepts, &handled, &requests)
	if err != nil {
		return 0, fmt.Errorf("nginx's status %q: %w", text, err)
	}
	return requests - n.polls.Load(), nil
}

// get fetches a page of a local server, at most 64 MiB.
func get(ctx context.Context, url string) ([]byte, error) { return getWith(ctx, url, "") }

// getWith is get with a bearer token; "" is none.
func getWith(ctx context.Context, url, token string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return text, fmt.Errorf("%s: %s", url, answer.Status)
	}
	return text, nil
}
