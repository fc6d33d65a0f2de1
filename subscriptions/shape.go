package subscriptions

import (
	"encoding/base64"
	"net/url"
	"regexp"
	"strings"
	"unicode"
)

// What looks like a secret is told by its shape alone, since whoever misspells `secrets` or adds a key of their own gives no
// other sign. A masked value that is none costs little: it comes back as it is stored.
var (
	// A signing secret, or a header that signs somebody in.
	credentialShape = regexp.MustCompile(`wh(sec|sk)_[A-Za-z0-9+/=_-]|(?i)^\s*bearer\s+\S|\bbearer\s+\S*\d|\bauthorization\s*[:=]\s*\S|-----BEGIN [A-Z ]*PRIVATE KEY`)
	basic           = regexp.MustCompile(`(?i)\bbasic\s+([A-Za-z0-9+/]+=*)`)
	// A name of a query's parameter whose value signs somebody in.
	tokenName = regexp.MustCompile(`(?i)(token|secret|password|passwd|pwd|signature|credential|auth|api_?key|access_?key|^key$|^sig$)`)
)

// looksSecret says whether a text holds something that looks like a secret: a signing secret, a Bearer or Basic credential,
// a private key, a URL with credentials, or a long random token.
func looksSecret(text string) bool {
	if credentialShape.MatchString(text) || isBasic(text) {
		return true
	}
	for word := range strings.FieldsSeq(text) {
		if strings.Contains(word, "://") && urlHasSecret(strings.Trim(word, `"'<>()[]{},;`)) {
			return true
		}
	}
	return strings.ContainsFunc(text, unicode.IsLetter) && hasRandomWord(text)
}

func isBasic(text string) bool {
	for _, found := range basic.FindAllStringSubmatch(text, -1) {
		decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(found[1], "="))
		if err == nil && strings.Contains(string(decoded), ":") {
			return true
		}
	}
	return false
}

func urlHasSecret(text string) bool {
	u, err := url.Parse(text)
	if err != nil {
		return false
	}
	if u.User != nil {
		return true
	}
	for name, values := range u.Query() {
		if tokenName.MatchString(name) && strings.Join(values, "") != "" {
			return true
		}
	}
	return false
}

// minToken is the length from which on a word may be a random token.
const minToken = 20

// A UUID is an id far more often than a secret.
var uuid = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)

// hasRandomWord looks for a long run of letters and digits in which upper case, lower case and digits follow one another
// as no language has them.
func hasRandomWord(text string) bool {
	isPart := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
	}
	isJoint := func(r rune) bool { return strings.ContainsRune("+/_=-", r) } // of base64, and of names and paths
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return !isPart(r) && !isJoint(r) }) {
		if len(word) < minToken || uuid.MatchString(word) {
			continue
		}
		for piece := range strings.FieldsFuncSeq(word, isJoint) {
			if measure(piece).isRandom() {
				return true
			}
		}
		// Base64 has few joints, and names and paths have many.
		whole := strings.Join(strings.FieldsFunc(word, isJoint), "")
		if joints := len(strings.TrimRight(word, "=")) - len(whole); joints <= len(word)/8 && measure(whole).isRandom() {
			return true
		}
	}
	return false
}

// mixture is how the kinds of characters follow one another in a word of letters and digits.
type mixture struct {
	length, digits, upper, lower int
	turns                        float64 // the share of neighbours that are of different kinds
}

func measure(word string) mixture {
	m := mixture{length: len(word)}
	turns, last := 0, 0
	for i := range len(word) {
		var kind int
		switch c := word[i]; {
		case c <= '9':
			kind, m.digits = 1, m.digits+1
		case c <= 'Z':
			kind, m.upper = 2, m.upper+1
		default:
			kind, m.lower = 3, m.lower+1
		}
		if i > 0 && kind != last {
			turns++
		}
		last = kind
	}
	m.turns = float64(turns) / float64(max(1, m.length-1))
	return m
}

// isRandom judges the share of turns: a random text of all three kinds has 0.62 on average, of letters 0.5, of hex digits
// 0.47, of base32 0.3; CamelCase has 0.2 to 0.37, and names with numbers in them have less than 0.15.
func (m mixture) isRandom() bool {
	switch {
	case m.length < minToken:
		return false
	case m.upper > 0 && m.lower > 0 && m.digits > 0:
		return m.turns >= 0.35
	case m.upper > 0 && m.lower > 0:
		return m.turns >= 0.40
	}
	return m.digits >= 3 && m.digits < m.length && m.turns >= 0.16
}

// shown is a text for a message: at most n bytes of it, and only the mask where it looks like a secret.
func shown(text string, n int) string {
	if looksSecret(text) {
		return hidden(text)
	}
	return cut(text, n)
}

// MaskedURL is a URL for logs, errors and tables: without user and password, without its query and fragment, and without
// the segments of its path that look like secrets, as some services have them there.
func MaskedURL(text string) string {
	bare, hash, hashed := strings.Cut(text, "#")
	bare, query, queried := strings.Cut(bare, "?")
	if scheme, rest, ok := strings.Cut(bare, "://"); ok {
		host, path, slash := strings.Cut(rest, "/")
		if at := strings.LastIndexByte(host, '@'); at >= 0 {
			host = mask + host[at:]
		}
		bare = scheme + "://" + host
		if slash {
			segments := strings.Split(path, "/")
			for i, segment := range segments {
				segments[i] = shown(segment, len(segment))
			}
			bare += "/" + strings.Join(segments, "/")
		}
	} else {
		bare = shown(bare, len(bare))
	}
	if queried && query != "" {
		bare += "?" + mask
	}
	if hashed && hash != "" {
		bare += "#" + mask
	}
	return bare
}
