package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"fanout/config"
	"fanout/dispatcher/post"
	"fanout/dispatcher/resolve"
	"fanout/egress"
	"fanout/subscriptions"
)

// mostNames bounds how many receivers' names are looked up.
const mostNames = 500

// hostNames is the names of receivers that have to be looked up, once each, and the first mostNames of them.
type hostNames map[string]bool

func (n *hostNames) add(sub *subscriptions.Subscription, rules *egress.Rules) {
	t, err := rules.ParseStoredURL(sub.Account(), sub.URL())
	if err != nil || t.Addr.IsValid() || len(*n) == mostNames {
		return
	}
	if *n == nil {
		*n = hostNames{}
	}
	(*n)[t.Host] = true
}

// receivers looks at what receivers are reached by.
func (f *findings) receivers(ctx context.Context, cfg *config.Config, network resolve.Config, names hostNames) {
	rules, err := egress.New(cfg.Egress)
	if err != nil { // a problem of the configuration: it has been said
		return
	}
	receivers := cfg.Dispatcher(userAgent())
	receivers.Network = network
	client := receivers.Client(rules)
	f.roots(client.Files)
	resolver := resolve.New(network)
	defer resolver.Close()
	if !cfg.Egress.ProxyNames {
		f.nameServers(ctx, resolver, len(names) > 0)
		f.onlyBySearch(ctx, cfg, resolver, names)
	}
	if cfg.Egress.Proxy != "" {
		f.proxy(ctx, client)
	}
}

// roots looks at what certificates are checked against.
func (f *findings) roots(files post.Files) {
	err := files.Check()
	switch {
	case err != nil:
		f.problem("TLS", err.Error(), "")
	case !files.Trusts():
		f.problem("TLS", "there are no CA roots here: no certificate of a receiver can be checked", "install the package ca-certificates, or set egress.ca_file")
	default:
		f.okf("TLS", "CA roots are there")
	}
}

// nameServers asks each name server for the root zone. needed says that there are names to be looked up.
func (f *findings) nameServers(ctx context.Context, resolver *resolve.Resolver, needed bool) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	servers := resolver.Servers()
	answers := make([]resolve.ServerAnswer, len(servers))
	var asking sync.WaitGroup
	for i, server := range servers {
		asking.Go(func() { answers[i] = resolver.AskServer(ctx, server) })
	}
	asking.Wait()
	silent := 0
	for i, a := range answers {
		what := "name server " + servers[i]
		switch {
		case !a.Answered:
			silent++
			f.warning(what, "does not answer within 3 s", "see /etc/resolv.conf, and whether port 53 is open, by UDP and TCP")
		case a.Err != nil:
			f.warning(what, fmt.Sprintf("answers, but not for the root zone: %v", a.Err), "fine for a server of internal names only")
		default:
			f.okf(what, "answers in %s", a.Took.Round(100*time.Microsecond))
		}
	}
	if silent == len(servers) && needed {
		f.problem("DNS", "no name server answers: nothing can be delivered to a host name", "bring one back, or name another in /etc/resolv.conf")
	}
}

// onlyBySearch names the receivers' names that exist only with the resolver's search list.
func (f *findings) onlyBySearch(ctx context.Context, cfg *config.Config, resolver *resolve.Resolver, names hostNames) {
	if cfg.Egress.Search {
		return
	}
	found := searchOnly(ctx, resolver, names)
	for _, host := range slices.Sorted(maps.Keys(found)) {
		f.warning("host "+host, "exists only with the resolver's search list, as "+found[host]+": its deliveries fail", "write the name in full in the URL, or set egress.search")
	}
}

// searchOnly is those of the names that exist only with the resolver's search list, and what it makes of them, as far as that
// is found out within some seconds.
func searchOnly(ctx context.Context, resolver *resolve.Resolver, names hostNames) map[string]string {
	if !resolver.Searches() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var mu sync.Mutex // guards found
	found := map[string]string{}
	var asking sync.WaitGroup
	room := make(chan struct{}, 16)
	for host := range names {
		asking.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			_, err := resolver.Lookup(ctx, host+".")
			if e, ok := errors.AsType[*resolve.Error](err); ok && e.ByName != "" {
				mu.Lock()
				defer mu.Unlock()
				found[host] = strings.TrimSuffix(e.ByName, ".")
			}
		})
	}
	asking.Wait()
	return found
}

// proxy sees whether the egress proxy takes connections, and its credentials.
func (f *findings) proxy(ctx context.Context, cfg post.Config) {
	client, err := post.New(cfg)
	if err != nil { // a problem of TLS: it has been said
		return
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := client.CheckProxy(ctx); err != nil {
		text := err.Error()
		if e, ok := errors.AsType[*post.Error](err); ok {
			text = e.Detail
		}
		f.problem("egress proxy", text, "see egress.proxy: without it nothing can be delivered")
		return
	}
	f.okf("egress proxy", "takes connections")
}

// clockSkew is how far the clock may be from Redis's without a word. Receivers refuse what is five minutes off.
const clockSkew = 30 * time.Second

// clock compares the clock with that of Redis's machine. A user that may not ask for it is not a problem.
func (f *findings) clock(ctx context.Context, store *subscriptions.Store) {
	before := time.Now()
	theirs, err := store.Clock(ctx)
	if err != nil {
		return
	}
	skew := theirs.Sub(before.Add(time.Since(before) / 2))
	if skew.Abs() <= clockSkew {
		f.okf("clock", "agrees with that of Redis")
		return
	}
	direction := "behind"
	if skew < 0 {
		direction = "ahead of"
	}
	f.warning("clock", fmt.Sprintf("%s %s that of Redis: receivers refuse webhook-timestamp when it is more than five minutes off", skew.Abs().Round(time.Second), direction),
		"synchronize the clocks with NTP: one of the two is wrong")
}
