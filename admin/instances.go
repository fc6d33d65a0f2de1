package admin

import (
	"cmp"
	"context"
	"crypto/hmac"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"fanout/dispatcher"
	"fanout/operate"
	"fanout/subscriptions"
)

// Instances ask each other with a signature in this header: Unix seconds, a dot, and a MAC. It opens reading of what instances ask each other
// for, at one address, for a moment; the token is told to nobody (docs/contract.md#advertise).
const (
	signatureHeader = "Fanout-Instance"
	signatureLasts  = 30 * time.Second // either way: clocks differ
)

// askedPaths are what one instance may ask another for.
func askedPaths() []string { return []string{"/api/v1/lanes", "/api/v1/tail", "/api/v1/status"} }

// Sign signs a request to another instance.
func (k Keys) Sign(r *http.Request, now time.Time) {
	at := now.Unix()
	r.Header.Set(signatureHeader, strconv.FormatInt(at, 10)+"."+base64.RawURLEncoding.EncodeToString(k.requestMAC(r.Method, cmp.Or(r.Host, r.URL.Host), r.URL.RequestURI(), at)))
}

func (k Keys) requestMAC(method, host, uri string, at int64) []byte {
	text := binary.AppendVarint(nil, at)
	for _, part := range []string{method, strings.ToLower(host), uri} {
		text = append(binary.AppendUvarint(text, uint64(len(part))), part...)
	}
	return sum(k.For(forInstance), string(text))
}

// fromInstance says whether another instance, or a command with the token, has signed the request, and it may be asked.
func (k Keys) fromInstance(r *http.Request, now time.Time) bool {
	text, mac, ok := strings.Cut(r.Header.Get(signatureHeader), ".")
	if !ok || k.master == nil || r.Method != http.MethodGet || !slices.Contains(askedPaths(), r.URL.Path) {
		return false
	}
	at, err := strconv.ParseInt(text, 10, 64)
	given, macErr := base64.RawURLEncoding.DecodeString(mac)
	return err == nil && macErr == nil && now.Sub(time.Unix(at, 0)).Abs() <= signatureLasts &&
		hmac.Equal(given, k.requestMAC(r.Method, r.Host, r.URL.RequestURI(), at))
}

// How the others are asked for the pages: while somebody looks.
const (
	othersEvery    = 2 * time.Second
	othersPatience = 1500 * time.Millisecond
	othersAnswer   = 32 << 20 // bytes
)

// others asks the other instances for their lanes.
type others struct {
	mu     sync.Mutex // guards all below
	asked  time.Time
	took   time.Duration
	asking bool
	list   []otherInstance // never changed, only replaced
}

// otherInstance is what another instance has answered.
type otherInstance struct {
	Name, URL string
	Problem   string    // why it did not answer; empty: it did
	Since     time.Time // since when it has not
	lanes     []operate.Lane
}

// look returns what the other instances have answered lately. Where nobody has looked for a while they are asked now.
func (o *others) look(ctx context.Context, p *panel) []otherInstance {
	if p.Instances == nil {
		return nil
	}
	o.mu.Lock()
	age := time.Since(o.asked)
	if o.asking || age < max(othersEvery, 10*o.took) && age < 5*othersEvery {
		defer o.mu.Unlock()
		return o.list
	}
	o.asking = true
	o.mu.Unlock()
	if age < 5*othersEvery {
		p.behind(ctx, othersPatience, func(ctx context.Context) { o.ask(ctx, p) })
	} else {
		o.ask(ctx, p)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.list
}

// peek returns what the other instances have answered the last time that somebody looked. It waits for none of them.
func (o *others) peek(p *panel) []otherInstance {
	if p.Instances == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.asked) > 5*othersEvery+othersPatience {
		return nil // it is too old to be shown as now
	}
	return o.list
}

func (o *others) ask(ctx context.Context, p *panel) {
	ctx, cancel := context.WithTimeout(ctx, othersPatience)
	defer cancel()
	began := time.Now()
	known := p.Instances()
	list := make([]otherInstance, len(known))
	var asking sync.WaitGroup
	for i, one := range known {
		list[i] = otherInstance{Name: one.Name, URL: one.URL}
		asking.Go(func() {
			var err error
			if list[i].lanes, err = p.keys.lanesOf(ctx, one); err != nil {
				list[i].Problem, list[i].Since = whySilent(err), began
			}
		})
	}
	asking.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range list {
		for _, was := range o.list {
			if was.URL == list[i].URL && was.Problem != "" && list[i].Problem != "" {
				list[i].Since = was.Since
			}
		}
	}
	o.list, o.asked, o.took, o.asking = list, time.Now(), time.Since(began), false
}

// lanesOf asks another instance for its lanes. No proxy and no redirect: the signature is for that address alone.
func (k Keys) lanesOf(ctx context.Context, one subscriptions.Instance) ([]operate.Lane, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, one.URL+"/api/v1/lanes", http.NoBody)
	if err != nil {
		return nil, err
	}
	k.Sign(r, time.Now())
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %d", res.StatusCode)
	}
	var answer struct {
		Lanes []operate.Lane `json:"lanes"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, othersAnswer)).Decode(&answer); err != nil {
		return nil, errors.New("its answer cannot be read")
	}
	return answer.Lanes, nil
}

// whySilent is why an instance did not answer, in a few words.
func whySilent(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	if text := err.Error(); strings.HasPrefix(text, "it") {
		return text
	}
	return "it cannot be reached"
}

// allLanes are the lanes of all instances that keep wants. silent are the instances that did not answer.
func (p *panel) allLanes(ctx context.Context, keep func(*dispatcher.LaneStatus) bool) (lanes map[[2]string]*dispatcher.LaneStatus, silent []otherInstance) {
	list := p.others.look(ctx, p)
	for _, one := range list {
		if one.Problem != "" {
			silent = append(silent, one)
		}
	}
	return allLanes(p.Dispatcher, list, keep), silent
}

// allLanes are this instance's lanes and those of the others, by account and subscription: several instances' are one, as the worst of them is.
func allLanes(d *dispatcher.Dispatcher, list []otherInstance, keep func(*dispatcher.LaneStatus) bool) map[[2]string]*dispatcher.LaneStatus {
	lanes := make(map[[2]string]*dispatcher.LaneStatus)
	for _, l := range d.Lanes(keep) {
		lanes[[2]string{l.Account, l.Subscription}] = new(l)
	}
	for _, one := range list {
		for i := range one.lanes {
			l := laneStatus(&one.lanes[i])
			if !keep(&l) {
				continue
			}
			if own := lanes[[2]string{l.Account, l.Subscription}]; own != nil {
				addLane(own, &l)
			} else {
				lanes[[2]string{l.Account, l.Subscription}] = &l
			}
		}
	}
	return lanes
}

// laneStatus is a lane that another instance has told of.
func laneStatus(l *operate.Lane) dispatcher.LaneStatus {
	return dispatcher.LaneStatus{
		Account: l.Account, Subscription: l.Subscription, State: l.State, Why: l.Why, Since: moment(l.Since), Until: moment(l.Until), InFlight: l.InFlight,
		Limit: l.Limit, Maximum: l.Maximum, Queued: l.Queued, OldestQueued: moment(l.OldestQueued), Failures: l.Failures, Pace: l.Pace, MaxPerSecond: l.MaxPerSecond,
	}
}

// addLane adds another instance's lane of the same subscription.
func addLane(sum, l *dispatcher.LaneStatus) {
	if severity(l.State) < severity(sum.State) || severity(l.State) == severity(sum.State) && l.Failures > sum.Failures {
		sum.State, sum.Why, sum.Until = l.State, l.Why, l.Until
	}
	if !l.Since.IsZero() && (sum.Since.IsZero() || l.Since.Before(sum.Since)) {
		sum.Since = l.Since
	}
	if !l.OldestQueued.IsZero() && (sum.OldestQueued.IsZero() || l.OldestQueued.Before(sum.OldestQueued)) {
		sum.OldestQueued = l.OldestQueued
	}
	sum.InFlight += l.InFlight
	sum.Limit += l.Limit
	sum.Maximum += l.Maximum
	sum.Queued += l.Queued
	sum.Pace += l.Pace
	sum.MaxPerSecond += l.MaxPerSecond
	sum.Failures = max(sum.Failures, l.Failures)
}
