package egress

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// MaxURL is the longest URL that is taken, in bytes.
const MaxURL = 4096

// Target is a URL taken apart for an HTTP/1.1 request. It is immutable: many attempts share one.
type Target struct {
	TLS        bool
	Host       string     // lower-case ASCII, an IDN in its xn-- form, an address without brackets; for DNS and TLS
	Rooted     bool       // the URL's host ends with a dot: it is absolute even where the resolver's search list applies
	Addr       netip.Addr // where Host is an address, that; else the zero Addr
	Port       uint16
	Path       string // path and query, escaped, for the request line
	HostHeader string // with the port where that is not the scheme's own
	Opened     bool   // what allow_cidrs opens is open to whom the URL belongs
}

// ParseURL takes the URL of a subscription of the account apart and says whether the rules let it through, as far as that can be known
// without asking DNS. Its error is a [*Denied].
//
// It is stricter than browsers: a host that some parser might read as an address in disguise ("127.1", "0x7f000001",
// "0177.0.0.1", "%31.0.0.1") is refused, not interpreted. Path and query are sent as they are written: only bytes that
// RFC 3986 does not allow there are escaped.
func (r *Rules) ParseURL(account, raw string) (Target, error) {
	return r.parseURL(account, raw, true)
}

// ParseStoredURL is ParseURL for a URL that has been stored already: it lets pass what was taken before the rules were
// as strict as now, and sends it as before (a "%" in the query that begins no escape, invisible characters).
func (r *Rules) ParseStoredURL(account, raw string) (Target, error) {
	return r.parseURL(account, raw, false)
}

func (r *Rules) parseURL(account, raw string, strict bool) (Target, error) {
	t, reason := r.parse(raw, strict)
	if reason != "" {
		return Target{}, &Denied{reason}
	}
	t.Opened = r.opensFor(account)
	if t.Addr.IsValid() {
		if err := r.CheckAddr(t.Addr, t.Opened); err != nil {
			return Target{}, err
		}
	}
	return t, nil
}

func (r *Rules) parse(raw string, strict bool) (t Target, reason string) {
	if len(raw) > MaxURL {
		return t, "the URL is longer than 4096 bytes"
	}
	if reason := forbiddenCharacter(raw, strict); reason != "" {
		return t, reason
	}
	scheme, rest, _ := strings.Cut(raw, "://")
	switch {
	case strings.EqualFold(scheme, "https") && len(scheme) < len(raw):
		t.TLS, t.Port = true, 443
	case strings.EqualFold(scheme, "http") && len(scheme) < len(raw) && r.allowHTTP:
		t.Port = 80
	default:
		return t, "the URL does not begin with https://"
	}
	authority, rest := cutAt(rest, "/?#")
	if reason := t.parseAuthority(authority); reason != "" {
		return t, reason
	}
	if !r.portOpen(t.Port) {
		return t, "port " + strconv.Itoa(int(t.Port)) + " is not open for webhooks"
	}
	t.Path, reason = requestTarget(rest, strict)
	return t, reason
}

// cutAt splits s before the first of the bytes in chars.
func cutAt(s, chars string) (before, after string) {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// forbiddenCharacter names the first character that has no place anywhere in a URL; empty where there is none.
// Characters that nobody sees come along with copy and paste, and would lead to another resource.
func forbiddenCharacter(raw string, strict bool) string {
	for i, c := range raw {
		switch {
		case c == utf8.RuneError && !strings.HasPrefix(raw[i:], "\uFFFD"):
			return "the URL holds bytes that are not UTF-8"
		case c == ' ':
			return "the URL holds a space; write it as %20"
		case c == '\\':
			return `the URL holds a backslash (\); write it as %5C, or / where that is meant`
		case c < ' ' || c == 0x7f:
			return fmt.Sprintf("the URL holds a control character (U+%04X)", c)
		case strict && c >= 0x80 && invisible(c):
			return "the URL holds an invisible character: " + nameOf(c)
		}
	}
	return ""
}

// invisible reports whether a person who looks at the URL would not see c. Marks and joiners that some scripts need
// are among these: where they are meant, they can be written percent-encoded.
func invisible(c rune) bool {
	return unicode.In(c, unicode.Cc, unicode.Cf, unicode.Z, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point) || c == '\u2800'
}

// nameOf is a character's Unicode name, as far as it is one that people paste, with its code point.
func nameOf(c rune) string {
	names := map[rune]string{
		0x00A0: "NO-BREAK SPACE", 0x00AD: "SOFT HYPHEN", 0x034F: "COMBINING GRAPHEME JOINER", 0x061C: "ARABIC LETTER MARK",
		0x2007: "FIGURE SPACE", 0x2009: "THIN SPACE", 0x200B: "ZERO WIDTH SPACE", 0x200C: "ZERO WIDTH NON-JOINER", 0x200D: "ZERO WIDTH JOINER",
		0x200E: "LEFT-TO-RIGHT MARK", 0x200F: "RIGHT-TO-LEFT MARK", 0x2028: "LINE SEPARATOR", 0x2029: "PARAGRAPH SEPARATOR",
		0x202A: "LEFT-TO-RIGHT EMBEDDING", 0x202B: "RIGHT-TO-LEFT EMBEDDING", 0x202C: "POP DIRECTIONAL FORMATTING",
		0x202D: "LEFT-TO-RIGHT OVERRIDE", 0x202E: "RIGHT-TO-LEFT OVERRIDE", 0x202F: "NARROW NO-BREAK SPACE", 0x2060: "WORD JOINER",
		0x2066: "LEFT-TO-RIGHT ISOLATE", 0x2067: "RIGHT-TO-LEFT ISOLATE", 0x2068: "FIRST STRONG ISOLATE", 0x2069: "POP DIRECTIONAL ISOLATE",
		0x2800: "BRAILLE PATTERN BLANK", 0x3000: "IDEOGRAPHIC SPACE", 0x3164: "HANGUL FILLER", 0xFE0F: "VARIATION SELECTOR-16",
		0xFEFF: "ZERO WIDTH NO-BREAK SPACE (byte order mark)", 0xFFA0: "HALFWIDTH HANGUL FILLER",
	}
	if name := names[c]; name != "" {
		return fmt.Sprintf("%s (U+%04X)", name, c)
	}
	return fmt.Sprintf("U+%04X", c)
}

// parseAuthority fills in host, address, port and Host header from what stands between "//" and the path, as written.
func (t *Target) parseAuthority(authority string) (reason string) {
	switch {
	case strings.Contains(authority, "@"):
		return "the URL holds a user name or password"
	case strings.Contains(authority, "%"):
		return "the URL's host is percent-encoded or has a zone"
	}
	host, port, bracketed, reason := splitPort(authority)
	if reason != "" {
		return reason
	}
	if bracketed {
		t.Host, t.Addr, reason = parseIPv6(host)
	} else {
		t.Host, t.Rooted, t.Addr, reason = parseName(host)
	}
	if reason != "" {
		return reason
	}
	t.HostHeader = t.Host
	if t.Addr.Is6() {
		t.HostHeader = "[" + t.Host + "]"
	}
	if port == "" {
		return ""
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || port[0] == '+' {
		return "the URL's port is not a number from 1 to 65535"
	}
	if uint16(n) != t.Port {
		t.HostHeader += ":" + strconv.FormatUint(n, 10)
	}
	t.Port = uint16(n)
	return ""
}

// splitPort splits host[:port] and [address][:port].
func splitPort(authority string) (host, port string, bracketed bool, reason string) {
	if rest, ok := strings.CutPrefix(authority, "["); ok {
		host, port, ok = strings.Cut(rest, "]")
		if !ok || port != "" && port[0] != ':' {
			return "", "", true, "the URL's host is not an IPv6 address in brackets"
		}
		return host, strings.TrimPrefix(port, ":"), true, ""
	}
	host, port, _ = strings.Cut(authority, ":")
	if strings.Contains(port, ":") {
		return "", "", false, "the URL's host is not a valid name; an IPv6 address stands in brackets"
	}
	return host, port, false, ""
}

func parseIPv6(host string) (string, netip.Addr, string) {
	a, err := netip.ParseAddr(host)
	if err != nil || !a.Is6() || a.Zone() != "" {
		return "", netip.Addr{}, "the URL's host is not an IPv6 address in brackets"
	}
	return a.String(), a, ""
}

// parseName is the host in the one spelling that is dialled and sent. Names go through IDNA before they are judged,
// since it maps full-width digits and ideographic full stops to plain ones.
func parseName(host string) (name string, rooted bool, addr netip.Addr, reason string) {
	host, err := names.ToASCII(host)
	host, rooted = strings.CutSuffix(strings.ToLower(host), ".")
	switch {
	case host == "":
		return "", false, netip.Addr{}, "the URL has no host"
	case err != nil || !validName(host):
		return "", false, netip.Addr{}, "the URL's host is not a valid name"
	case !endsInNumber(host):
		return host, rooted, netip.Addr{}, ""
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return "", false, netip.Addr{}, "the URL's host is a number that is not a plain IPv4 address"
	}
	return host, false, a, ""
}

// names is IDNA's lookup profile, but for two rules that names in use break: they have underscores, and hyphens in the
// third and fourth place ("r3---sn-x") or at the end of a label.
//
//nolint:gochecknoglobals // immutable
var names = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false), idna.StrictDomainName(false), idna.CheckHyphens(false))

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
// Servers take "%2F" and "/" for different resources, and some refuse what RFC 3986 does not allow: so an escape stays
// as it was written, and everything else that is not allowed becomes one.
func requestTarget(raw string, strict bool) (target, reason string) {
	raw, _, _ = strings.Cut(raw, "#")
	path, _, _ := strings.Cut(raw, "?")
	var b strings.Builder
	if !strings.HasPrefix(raw, "/") {
		b.WriteByte('/')
	}
	for i := range len(raw) {
		const hex = "0123456789ABCDEF"
		switch c := raw[i]; {
		case c == '%' && (strict || i < len(path)) && !isEscape(raw[i:]):
			return "", "the URL holds a % that two hexadecimal digits do not follow; write it as %25"
		case c == '%' || allowed[c]:
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String(), ""
}

func isEscape(s string) bool {
	isHex := func(c byte) bool { return strings.IndexByte("0123456789abcdefABCDEF", c) >= 0 }
	return len(s) > 2 && isHex(s[1]) && isHex(s[2])
}

// allowed are the bytes that RFC 3986 lets stand for themselves in a path or query: pchar, "/" and "?".
//
//nolint:gochecknoglobals // a constant table
var allowed = func() (t [256]bool) {
	for c := range 0x80 {
		t[c] = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~!$&'()*+,;=:@/?", byte(c)) >= 0
	}
	return t
}()
