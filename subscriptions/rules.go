package subscriptions

import "strings"

// An edition of the contract. A rule that a later edition adds refuses what is written from then on, through the API, the
// portal and `subscriptions apply`. What Redis holds, whoever wrote it and whenever, stays in force as before: what breaks
// the rule is left out, and named wherever a person looks.
type edition uint8

const (
	first edition = iota
	second
)

// key is a key of a subscription's JSON.
type key struct {
	name  string
	since edition
	read  func(*parser, string) // of its raw value
}

// keys are all that are known. Another one is ignored and kept, and named wherever a person writes or looks.
//
//nolint:gochecknoglobals // a table
var keys = []key{
	{"url", first, (*parser).readURL},
	{"events", first, (*parser).readEvents},
	{"enabled", first, func(p *parser, raw string) { p.readFlag("enabled", raw, flagDisabled, "false") }},
	{"secrets", first, (*parser).readSecrets},
	{"headers", first, (*parser).readHeaders},
	{"description", first, (*parser).readDescription},
	{"maxInFlight", first, (*parser).readMaxInFlight},
	{"maxPerSecond", first, (*parser).readMaxPerSecond},
	{"paused", first, func(p *parser, raw string) { p.readFlag("paused", raw, flagPaused, "true") }},
	{"secretExpiry", second, (*parser).readExpiry},
	{"notificationIds", second, (*parser).readFilter},
	{"batch", second, (*parser).readBatch},
}

// keyNamed is nil for a key that is not known.
func keyNamed(name string) *key {
	for i := range keys {
		if keys[i].name == name {
			return &keys[i]
		}
	}
	return nil
}

// Keys are the names of the keys that a subscription's JSON may have. The slice is the caller's.
func Keys() []string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	return names
}

// refusedHeader is a header that a subscription may not set. A name that ends with "*" stands for all that begin so.
type refusedHeader struct {
	name  string
	since edition
}

// refusedHeaders frame the message, are the connection's own, are fanout's to say, or would have the receiver's proxies and
// frameworks take the request for another one. Many receivers read "_" in a name as "-", so a name that has "_" for "-" is
// refused as well, since the second edition.
//
//nolint:gochecknoglobals // a table
var refusedHeaders = []refusedHeader{
	{"connection", first},
	{"keep-alive", first},
	{"te", first},
	{"trailer", first},
	{"transfer-encoding", first},
	{"upgrade", first},
	{"proxy-*", first},
	{"host", first},
	{"content-*", first},
	{"user-agent", first},
	{"accept-encoding", first},
	{"webhook-*", first},
	{"traceparent", first},
	{"tracestate", first},
	{"expect", second},
	{"via", second},
	{"forwarded", second},
	{"x-forwarded-*", second},
	{"max-forwards", second},
	{"http2-settings", second},
	{"range", second},
	{"x-http-method-override", second},
}

// refusedSince says since which edition a header is refused, whatever the case of its name.
func refusedSince(name string) (since edition, refused bool) {
	name = strings.ToLower(name)
	dashed := strings.ReplaceAll(name, "_", "-")
	for _, r := range refusedHeaders {
		switch {
		case r.matches(name):
			return r.since, true
		case r.matches(dashed):
			since, refused = second, true // unless another row matches the name as it is
		}
	}
	return since, refused
}

func (r *refusedHeader) matches(name string) bool {
	if prefix, ok := strings.CutSuffix(r.name, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return name == r.name
}
