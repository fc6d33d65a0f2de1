package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"fanout/config"
	"fanout/egress"
	"fanout/subscriptions"
)

// redis counts what is stored there, and names what is wrong or odd. It returns the receivers' names.
func (f *findings) redis(ctx context.Context, cfg *config.Config) (names hostNames) {
	store, err := subscriptions.NewStore(cfg.Redis)
	if err != nil {
		f.problem("redis", err.Error(), "see redis.url and redis.tls")
		return names
	}
	defer store.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := store.Ping(ctx); err != nil {
		f.store(err)
		return names
	}
	rules, err := egress.New(cfg.Egress)
	if err != nil { // a problem of the configuration: it has been said
		return names
	}
	f.clock(ctx, store)
	if !f.sharedKeys(ctx, store) {
		return names
	}
	var s survey
	for stored, err := range store.ListAll(ctx) {
		if wrong, ok := errors.AsType[*subscriptions.WrongTypeError](err); ok {
			s.wrong(wrong)
			continue
		}
		if err != nil {
			f.store(err)
			return names
		}
		j := judge(store.Reader(), &stored, rules)
		s.add(&stored, j)
		names.add(j.sub, rules)
	}
	s.reportWrong(f)
	if s.total == 0 {
		f.warning("redis", "no subscription is stored: nothing would be delivered", "fanout subscriptions apply -f FILE")
		return names
	}
	s.report(f)
	f.okf("redis", "answers, %s", count(s.total, "subscription"))
	return names
}

// sharedKeys names what concerns all accounts: keys that hold something else than they must, and an eviction policy. It is false where Redis does not answer.
func (f *findings) sharedKeys(ctx context.Context, store *subscriptions.Store) bool {
	wrong, err := store.WrongKeys(ctx)
	if err != nil {
		f.store(err)
		return false
	}
	for _, e := range wrong {
		f.store(e)
	}
	evictions, err := store.Evictions(ctx)
	switch {
	case err != nil:
		f.store(err)
		return false
	case evictions.Policy != "":
		f.problem("redis", fmt.Sprintf("maxmemory-policy is %s: when memory runs short, accounts are dropped; %s evicted since it started", evictions.Policy, count(int(evictions.Evicted()), "key")),
			"CONFIG SET maxmemory-policy noeviction, and the same in its configuration; give it the memory that it needs")
	case evictions.Denied:
		f.warning("redis", "its user may not ask for maxmemory-policy, so whether accounts may be evicted is not known", "ACL SETUSER <user> +info")
	}
	return true
}

// store is an error of Redis, with its own remedy if it has one.
func (f *findings) store(err error) {
	found, remedy := err.Error(), ""
	if e, ok := errors.AsType[*subscriptions.StoreError](err); ok {
		found, remedy = e.Found, e.Remedy
	}
	f.problem("redis", found, cmp.Or(remedy, "start Redis, or set redis.url; it holds the subscriptions"))
}

// shownSubscriptions bounds how many subscriptions check names, of each kind.
const shownSubscriptions = 20

// survey is what is wrong and odd among the stored subscriptions.
type survey struct {
	total, invalid, odd, unsigned int
	wrongKeys                     int // accounts whose key holds no subscriptions

	wrongOnes            []error // the first of each
	invalidOnes, oddOnes []finding
	unsignedOnes         []string
}

func (s *survey) add(stored *subscriptions.Stored, j judged) {
	s.total++
	name := stored.Account + "/" + stored.ID
	if j.problem != "" {
		s.invalid++
		s.invalidOnes = some(s.invalidOnes, finding{"warning", "subscription " + name, j.problem, "correct it; its last good version stays in force, if there is one"})
	}
	if j.unsigned {
		s.unsigned++
		s.unsignedOnes = some(s.unsignedOnes, name)
	}
	counted := false
	for _, w := range j.warnings {
		if w.Field == "secrets" && j.unsigned {
			continue // all that are unsigned are one finding
		}
		if !counted {
			counted, s.odd = true, s.odd+1
		}
		s.oddOnes = some(s.oddOnes, finding{"warning", "subscription " + name, w.String(), ""})
	}
}

func (s *survey) wrong(err *subscriptions.WrongTypeError) {
	s.wrongKeys++
	s.wrongOnes = some(s.wrongOnes, error(err))
}

// reportWrong names the accounts that cannot be read: nothing is delivered to them but what was known before.
func (s *survey) reportWrong(f *findings) {
	slices.SortFunc(s.wrongOnes, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	for _, err := range s.wrongOnes {
		f.store(err)
	}
	if s.wrongKeys > len(s.wrongOnes) {
		f.problem("redis", fmt.Sprintf("%d accounts have a key of another type, %d of them named above", s.wrongKeys, len(s.wrongOnes)), "fanout subscriptions list shows all of them")
	}
}

// some keeps the first.
func some[T any](list []T, one T) []T {
	if len(list) == shownSubscriptions {
		return list
	}
	return append(list, one)
}

func (s *survey) report(f *findings) {
	const all = "fanout subscriptions list shows all of them"
	byName := func(a, b finding) int { return cmp.Or(cmp.Compare(a.What, b.What), cmp.Compare(a.Found, b.Found)) }
	slices.SortStableFunc(s.invalidOnes, byName)
	slices.SortStableFunc(s.oddOnes, byName)
	*f = append(*f, s.invalidOnes...)
	if s.invalid > len(s.invalidOnes) {
		f.warning("subscriptions", fmt.Sprintf("%d are invalid, %d of them named above", s.invalid, len(s.invalidOnes)), all)
	}
	*f = append(*f, s.oddOnes...)
	if len(s.oddOnes) == shownSubscriptions {
		f.warning("subscriptions", fmt.Sprintf("%d have something odd about them, the first named above", s.odd), all)
	}
	if s.unsigned > 0 {
		slices.Sort(s.unsignedOnes)
		names := strings.Join(s.unsignedOnes, ", ")
		if s.unsigned > len(s.unsignedOnes) {
			names += ", …"
		}
		f.warning("subscriptions", fmt.Sprintf("%d unsigned, whose receivers cannot tell who sent a delivery: %s", s.unsigned, names),
			"give each a secret: fanout subscriptions rotate ACCOUNT ID makes one")
	}
}
