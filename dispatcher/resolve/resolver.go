// Package resolve asks DNS for addresses, as /etc/hosts and /etc/resolv.conf have it.
//
// It promises that one server which does not answer costs a second, once; that an answer which one family of addresses
// lacks holds up the other one for 50 ms; that answers are kept for their time to live; and that the last good ones
// serve for up to an hour while DNS fails. It judges no address: whoever dials does.
//
// Everything that it waits for is a connection of the Dial function that it is handed, a channel or a timer.
package resolve

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	minTTL     = time.Second
	maxTTL     = 5 * time.Minute
	maxNoTTL   = 30 * time.Second // of "no such name": who has just made one should not wait for long
	staleFor   = time.Hour        // how long the last good addresses serve while DNS fails
	staleAfter = time.Second      // how long a fresh answer is waited for where there is an old one
	failedFor  = time.Second      // how long a failure stands for all who ask, while the servers know nothing else (RFC 9520)
	staleRetry = 5 * time.Second  // the same where there are old addresses to go on with
	familyLag  = 50 * time.Millisecond
	flightTime = 5 * time.Second // bounds one look-up, whoever waits for it
	maxKnown   = 32_768          // names remembered at once, some 300 bytes each
)

// Config configures a Resolver. Zero values mean the defaults.
type Config struct {
	ResolvConf string // path of resolv.conf(5); default /etc/resolv.conf
	Hosts      string // path of hosts(5); default /etc/hosts
	Dial       Dial   // default that of package net
}

// Resolver looks names up. It is safe for concurrent use. Close it to end what it asks.
type Resolver struct {
	cfg      Config
	settings file[settings]
	hosts    file[hosts]
	servers  servers

	base    context.Context //nolint:containedctx // the resolver's lifetime: look-ups outlive those who ask
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex // guards all below
	names map[string]*name
	most  int    // how many there may be
	last  uint64 // the number of the last look-up
}

// Answer is the addresses of a name. It is immutable, and shared by all who ask for the name.
type Answer struct {
	Addrs []netip.Addr // IPv6 first; never empty
	At    time.Time    // when the servers said so; zero: they were not asked
	Until time.Time    // how long it holds
}

// Error is why a name has no addresses. All who waited for one look-up, and whoever asks within a second of it, get an
// error with the same ID.
type Error struct {
	ID       uint64 // of the look-up; never 0
	NotFound bool   // the servers say that the name does not exist, or has no address; else they do not say
	ByName   string // where the name exists only with the resolver's search list, which was not asked for: the name then
	Err      error  // the reason; its text names neither servers nor addresses
}

// Error is the reason.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap is the reason.
func (e *Error) Unwrap() error { return e.Err }

const (
	errNoName failure = "name does not exist"
	errNoAddr failure = "name has no address"
)

// New makes a Resolver.
func New(cfg Config) *Resolver {
	cfg.ResolvConf = cmp.Or(cfg.ResolvConf, "/etc/resolv.conf")
	cfg.Hosts = cmp.Or(cfg.Hosts, "/etc/hosts")
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	r := &Resolver{
		cfg:      cfg,
		settings: file[settings]{path: cfg.ResolvConf, parse: parseSettings},
		hosts:    file[hosts]{path: cfg.Hosts, parse: parseHosts},
		names:    map[string]*name{}, most: maxKnown,
	}
	r.base, r.cancel = context.WithCancel(context.Background()) //nolint:forbidigo // ends with Close
	return r
}

// Close ends all look-ups, and returns when they have ended.
func (r *Resolver) Close() {
	r.mu.Lock()
	r.cancel()
	r.mu.Unlock()
	r.running.Wait()
}

// Lookup is the addresses of a name. With a dot at its end it is absolute; else the search list of resolv.conf applies
// to it. The error is an [*Error], also where ctx ends first.
func (r *Resolver) Lookup(ctx context.Context, host string) (*Answer, error) {
	now := time.Now()
	host = strings.ToLower(host)
	if addrs := r.hosts.current(now).find(strings.TrimSuffix(host, ".")); addrs != nil {
		return &Answer{Addrs: addrs, Until: now.Add(rereadAfter)}, nil
	}
	r.mu.Lock()
	n := r.name(host, now)
	answer, failed, failing := n.answer, n.failed, n.failing
	stale := n.stale(now)
	if n.stands(now, &r.servers) {
		r.mu.Unlock()
		if answer == nil {
			return nil, failed
		}
		return answer, nil
	}
	f := r.fly(host, n)
	r.mu.Unlock()
	switch {
	case !stale:
		return r.await(ctx, host, f, now)
	case failing:
		return answer, nil // the look-up goes on for those who come later
	}
	patience, cancel := context.WithTimeout(ctx, staleAfter)
	defer cancel()
	fresh, err := r.await(patience, host, f, now)
	if e, ok := err.(*Error); ok && !e.NotFound { //nolint:errorlint // await wraps nothing
		return answer, nil
	}
	return fresh, err
}

// Refresh asks the servers for a name, as Lookup takes it, whatever is known of it, and returns nil where they know: that
// the name does not exist is an answer too. The error is an [*Error].
func (r *Resolver) Refresh(ctx context.Context, host string) error {
	host, now := strings.ToLower(host), time.Now()
	_, err := r.await(ctx, host, r.join(host, now), now)
	if e, ok := err.(*Error); ok && e.NotFound { //nolint:errorlint // await wraps nothing
		return nil
	}
	return err
}

// Root asks for the root zone, which every server that works can say something about. It returns nil where one does.
func (r *Resolver) Root(ctx context.Context) error {
	s := r.settings.current(time.Now())
	o := r.ask(ctx, &s, root())
	if o.err == errRefused { //nolint:errorlint // never wrapped
		return nil // it answers, and not to everybody
	}
	return o.err
}

// Servers is the name servers of resolv.conf, host:port each.
func (r *Resolver) Servers() []string { return slices.Clone(r.settings.current(time.Now()).servers) }

// Searches reports whether resolv.conf has a search list.
func (r *Resolver) Searches() bool { return len(r.settings.current(time.Now()).search) > 0 }

// ServerAnswer is a name server's answer when it is asked for the root zone.
type ServerAnswer struct {
	Took     time.Duration
	Answered bool  // it said something
	Err      error // nil where it knew
}

// AskServer asks one server for the root zone.
func (r *Resolver) AskServer(ctx context.Context, server string) ServerAnswer {
	began := time.Now()
	reply, err := exchange(ctx, r.cfg.Dial, server, root(), r.settings.current(began).tcp)
	return ServerAnswer{time.Since(began), err == nil, judge(server, reply, err).err}
}

func root() question { return question{dnsmessage.MustNewName("."), dnsmessage.TypeNS} }
