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

// Nginx answers every request with 204, cheaply, and counts them: the receiver of the bench.
type Nginx struct {
	*Process

	port, status int
	polls        atomic.Int64 // requests that Requests itself made
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
  server {
    listen 127.0.0.1:%[1]d backlog=4096;
    location / { return 204; }
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
	const files = 20000 // more than its connections
	conf := fmt.Sprintf(nginxConf, n.port, n.status, files)
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
func get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
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
