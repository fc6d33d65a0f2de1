package egress

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// MaxURL is the longest URL that is taken, in bytes.
const MaxURL = 4096

// Target is a URL taken apart for an HTTP/1.1 request. It is immutable: many attempts share one.
type Target struct {
	TLS        bool
	Host       string     // lower-case ASCII, an IDN in its xn-- form, an address without brackets; for DNS and TLS
	Addr       netip.Addr // where Host is an address, that; else the zero Addr
	Port       uint16
	Path       string // path and query, escaped, for the request line
	HostHeader string // with the port where that is not the scheme's own
}

// ParseURL takes a subscription's URL apart and says whether the rules let it through, as far as that can be known
// without asking DNS. Its error is a [*Denied].
//
// It is stricter than browsers: a host that some parser might read as an address in disguise ("127.1", "0x7f000001",
// "0177.0.0.1", "%31.0.0.1") is refused, not interpreted.
func (r *Rules) ParseURL(raw string) (Target, error) {
	t, reason := r.parse(raw)
	if reason != "" {
		return Target{}, &Denied{reason}
	}
	if t.Addr.IsValid() {
		if err := r.CheckAddr(t.Addr); err != nil {
			return Target{}, err
		}
	}
	return t, nil
}

func (r *Rules) parse(raw string) (t Target, reason string) {
	if len(raw) > MaxURL {
		return t, "the URL is longer than 4096 bytes"
	}
	if !utf8.ValidString(raw) || strings.ContainsFunc(raw, func(c rune) bool { return c <= ' ' || c == 0x7f || c == '\\' }) {
		return t, "the URL holds a space, a control character or a backslash"
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" {
		return t, "the URL cannot be read"
	}
	switch {
	case u.Scheme == "https":
		t.TLS, t.Port = true, 443
	case u.Scheme == "http" && r.allowHTTP:
		t.Port = 80
	default:
		return t, "the URL does not begin with https://"
	}
	if u.User != nil {
		return t, "the URL holds a user name or password"
	}
	if strings.Contains(authority(raw), "%") {
		return t, "the URL's host is percent-encoded or has a zone"
	}
	if t.Host, t.Addr, reason = parseHost(u.Host, u.Hostname()); reason != "" {
		return t, reason
	}
	custom := false
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return t, "the URL's port is no port"
		}
		custom = uint16(n) != t.Port
		t.Port = uint16(n)
	}
	if !r.portOpen(t.Port) {
		return t, "port " + strconv.Itoa(int(t.Port)) + " is not open for webhooks"
	}
	t.HostHeader = t.Host
	if t.Addr.Is6() {
		t.HostHeader = "[" + t.Host + "]"
	}
	if custom {
		t.HostHeader += ":" + strconv.Itoa(int(t.Port))
	}
	t.Path = requestTarget(u)
	return t, ""
}

// authority is what stands between "//" and the path, as it was written: url.Parse decodes it.
func authority(raw string) string {
	_, rest, _ := strings.Cut(raw, "//")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return rest
}

// parseHost is the host in the one spelling that is dialled and sent. Names go through IDNA before they are judged,
// since it maps full-width digits and ideographic full stops to plain ones.
func parseHost(bracketed, host string) (string, netip.Addr, string) {
	if strings.HasPrefix(bracketed, "[") {
		a, err := netip.ParseAddr(host)
		if err != nil || !a.Is6() || a.Zone() != "" {
			return "", a, "the URL's host is no IPv6 address"
		}
		return a.String(), a, ""
	}
	host, err := names.ToASCII(host)
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	switch {
	case host == "":
		return "", netip.Addr{}, "the URL has no host"
	case err != nil || !validName(host):
		return "", netip.Addr{}, "the URL's host is no valid name"
	case !endsInNumber(host):
		return host, netip.Addr{}, ""
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return "", a, "the URL's host is a number that is no plain IPv4 address"
	}
	return host, a, ""
}

// names is IDNA's lookup profile, but with underscores, which names in use do have.
//
//nolint:gochecknoglobals // immutable
var names = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false), idna.StrictDomainName(false))

func validName(host string) bool {
	if len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_", rune(label[i])) {
				return false
			}
		}
	}
	return true
}

// endsInNumber says whether some parser might take the host for an IPv4 address (WHATWG URL, "ends in a number checker").
func endsInNumber(host string) bool {
	label := host[strings.LastIndexByte(host, '.')+1:]
	digits := "0123456789"
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		label, digits = hex, digits+"abcdef"
	}
	return strings.Trim(label, digits) == ""
}

// requestTarget is path and query as the request line carries them (RFC 9112 section 3.2.1), without the fragment.
// url.Parse leaves the query as it was written, so what may not stand there is escaped here.
func requestTarget(u *url.URL) string {
	var b strings.Builder
	b.WriteString(u.EscapedPath())
	if b.Len() == 0 {
		b.WriteByte('/')
	}
	if u.RawQuery == "" && !u.ForceQuery {
		return b.String()
	}
	b.WriteByte('?')
	for i := range len(u.RawQuery) {
		const hex = "0123456789ABCDEF"
		if c := u.RawQuery[i]; c >= 0x80 || c == '"' || c == '<' || c == '>' {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
