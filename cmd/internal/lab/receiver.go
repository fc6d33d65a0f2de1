package lab

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// Keep says what a Receiver remembers of each request.
type Keep int

// What a Receiver remembers.
const (
	KeepAll   Keep = iota // everything: for tests
	KeepIDs               // how often each webhook-id came, and how often it was answered with 2xx: for loss and repeats
	KeepCount             // only numbers: for load
)

// Watcher is told of each request once what it gets is decided: whether it is answered with 2xx. The request is whole
// but for its headers, and the watcher's own. It is called concurrently, before the answer is written.
type Watcher func(r Request, delivered bool)

// Request is a request that a Receiver got.
type Request struct {
	At        time.Time // when its headers and body were in
	Method    string
	Path      string
	WebhookID string
	Header    map[string]string // names in lower case; of a name given twice, the last
	Body      []byte
}

// Answer is what a Receiver does with a request. The zero value answers 204.
type Answer struct {
	Status     int
	Delay      time.Duration // before the answer
	Hang       bool          // never answer, until the receiver is stopped
	Reset      bool          // close the connection without an answer
	RetryAfter string
	Header     map[string]string
	Body       []byte
}

// Behaviour decides on the n-th request (from 1) to a path. It is called concurrently. With KeepIDs and KeepCount the
// request has its path and webhook-id only.
type Behaviour func(n int64, r *Request) Answer

// Always is the Behaviour that gives one answer.
func Always(a Answer) Behaviour { return func(int64, *Request) Answer { return a } }

// Receiver is an HTTP server in this process that records what it gets, and misbehaves on request.
type Receiver struct {
	keep Keep
	addr string

	mu     sync.Mutex // guards server and hang
	server *fasthttp.Server
	hang   chan struct{} // closed to let those that hang go

	paths sync.Map // string → *path
	watch atomic.Pointer[Watcher]
}

// path is one path of a Receiver.
type path struct {
	seen, delivered atomic.Int64
	behaviour       atomic.Pointer[Behaviour]

	mu       sync.Mutex // guards what follows
	requests []Request
	ids      map[string]IDCount
}

// IDCount is how often a webhook-id came, and how often it was answered with 2xx.
type IDCount struct{ Seen, Delivered int }

// Receiver starts a receiver on a free port.
func (l *Lab) Receiver(keep Keep) (*Receiver, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	r := &Receiver{keep: keep, addr: loopback(port)}
	l.onClose(r.Stop)
	return r, r.Start()
}

// Start starts a receiver that was stopped, on its own port; it remembers what it knew.
func (r *Receiver) Start() error {
	ln, err := net.Listen("tcp", r.addr)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hang = make(chan struct{})
	hang := r.hang
	r.server = &fasthttp.Server{
		Handler:            func(ctx *fasthttp.RequestCtx) { r.serve(ctx, hang) },
		MaxRequestBodySize: 1 << 20,
		CloseOnShutdown:    true,
		Logger:             silent{},
	}
	server := r.server
	go func() { _ = server.Serve(ln) }() // ends with Stop
	return nil
}

// silent logs nothing: clients that go away are what tests are about.
type silent struct{}

func (silent) Printf(string, ...any) {}

// Stop closes the port and all connections, also of those that hang. It may be started again.
func (r *Receiver) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server == nil {
		return
	}
	close(r.hang)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = r.server.ShutdownWithContext(ctx) // what is still being answered after a second is cut off
	r.server = nil
}

// URL is the address to POST to for a path such as /a.
func (r *Receiver) URL(path string) string { return "http://" + r.addr + path }

// Watch makes every request from now on known to w as well, whatever the Receiver keeps.
func (r *Receiver) Watch(w Watcher) { r.watch.Store(&w) }

// On makes a path behave from now on. Other paths answer 204.
func (r *Receiver) On(path string, b Behaviour) { r.path(path).behaviour.Store(&b) }

func (r *Receiver) path(name string) *path {
	if p, ok := r.paths.Load(name); ok {
		return p.(*path) //nolint:errcheck,forcetypeassert // the map holds nothing else
	}
	p, _ := r.paths.LoadOrStore(name, &path{ids: make(map[string]IDCount)})
	return p.(*path) //nolint:errcheck,forcetypeassert // the map holds nothing else
}

func (r *Receiver) serve(ctx *fasthttp.RequestCtx, hang <-chan struct{}) {
	request := Request{Path: string(ctx.Path())}
	p := r.path(request.Path)
	if r.keep != KeepCount {
		request.WebhookID = string(ctx.Request.Header.Peek("webhook-id"))
	}
	if r.keep == KeepAll {
		request.fill(ctx)
		p.mu.Lock()
		p.requests = append(p.requests, request)
		p.mu.Unlock()
	}
	n := p.seen.Add(1) // now, so that whoever has seen it finds it
	watch := r.watch.Load()
	if watch != nil && r.keep != KeepAll {
		request.At, request.Body = time.Now(), bytes.Clone(ctx.PostBody())
		request.WebhookID = string(ctx.Request.Header.Peek("webhook-id"))
	}
	var a Answer
	if b := p.behaviour.Load(); b != nil {
		a = (*b)(n, &request)
	}
	if a.Status == 0 {
		a.Status = fasthttp.StatusNoContent
	}
	delivered := !a.Hang && !a.Reset && a.Status/100 == 2
	if !a.wait(hang) || a.Reset {
		// Answered by closing: nothing is written, and fasthttp closes what was hijacked.
		ctx.HijackSetNoResponse(true)
		ctx.Hijack(func(net.Conn) {})
		delivered = false
	}
	if delivered {
		p.delivered.Add(1)
	}
	if r.keep != KeepCount {
		p.note(request.WebhookID, delivered)
	}
	if watch != nil {
		(*watch)(request, delivered)
	}
	a.write(ctx)
}

func (r *Request) fill(ctx *fasthttp.RequestCtx) {
	r.At = time.Now()
	r.Method = string(ctx.Method())
	r.Body = bytes.Clone(ctx.PostBody())
	r.Header = make(map[string]string)
	for name, value := range ctx.Request.Header.All() {
		r.Header[string(bytes.ToLower(name))] = string(value)
	}
}

func (p *path) note(id string, delivered bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.ids[id]
	c.Seen++
	if delivered {
		c.Delivered++
	}
	p.ids[id] = c
}

// wait returns false if there is to be no answer.
func (a *Answer) wait(hang <-chan struct{}) bool {
	if a.Hang {
		<-hang
		return false
	}
	if a.Delay > 0 {
		timer := time.NewTimer(a.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-hang:
			return false
		}
	}
	return true
}

func (a *Answer) write(ctx *fasthttp.RequestCtx) {
	ctx.SetStatusCode(a.Status)
	if a.RetryAfter != "" {
		ctx.Response.Header.Set("Retry-After", a.RetryAfter)
	}
	for name, value := range a.Header {
		ctx.Response.Header.Set(name, value)
	}
	ctx.SetBody(a.Body)
}

// Seen is how many requests came, for one path or, without one, for all.
func (r *Receiver) Seen(paths ...string) int64 {
	return r.sum(paths, func(p *path) int64 { return p.seen.Load() })
}

// Delivered is how many requests were answered with 2xx, for one path or, without one, for all.
func (r *Receiver) Delivered(paths ...string) int64 {
	return r.sum(paths, func(p *path) int64 { return p.delivered.Load() })
}

func (r *Receiver) sum(paths []string, number func(*path) int64) int64 {
	var sum int64
	for _, name := range paths {
		sum += number(r.path(name))
	}
	if len(paths) == 0 {
		for _, p := range r.paths.Range {
			sum += number(p.(*path)) //nolint:errcheck,forcetypeassert // the map holds nothing else
		}
	}
	return sum
}

// Requests is what came to a path so far, with KeepAll.
func (r *Receiver) Requests(name string) []Request {
	p := r.path(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// IDs is how often each webhook-id came to a path, not with KeepCount.
func (r *Receiver) IDs(name string) map[string]IDCount {
	p := r.path(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.ids)
}

// WaitSeen waits until n requests have come to a path.
func (r *Receiver) WaitSeen(ctx context.Context, path string, n int64) error {
	err := Await(ctx, strconv.FormatInt(n, 10)+" requests to "+path, func() bool { return r.Seen(path) >= n })
	if err != nil {
		return fmt.Errorf("%w: %d came", err, r.Seen(path))
	}
	return nil
}
