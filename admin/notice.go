package admin

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// notice is what the settings tell once, after a form has done what it was asked: the browser is sent to an address that
// it may reload, and brings the notice there in a sealed cookie. So it needs no memory of an instance, and a secret that
// was made is in no address, log or cache, and can be read on no other account's page.
type notice struct {
	Expires int64 `json:"exp"` // Unix seconds

	Said      string      `json:"said,omitempty"`
	Undo      string      `json:"undo,omitempty"`   // brings back what was deleted
	Secret    string      `json:"secret,omitempty"` // made just now
	PublicKey string      `json:"publicKey,omitempty"`
	Link      *portalLink `json:"link,omitempty"`
	Tested    *tested     `json:"tested,omitempty"`
}

const (
	noticeLasts = 2 * time.Minute
	maxNotice   = 3800 // bytes of the cookie's value: browsers keep 4096 of a cookie
)

// noticeSeal seals notices with a key that every instance derives from the token. Without a token there is one instance,
// on this machine, with a key of its own.
type noticeSeal struct{ aead cipher.AEAD }

func newNoticeSeal(keys Keys) (*noticeSeal, error) {
	block, err := aes.NewCipher(keys.orRandom(forNotice))
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return &noticeSeal{aead}, err
}

// noticePlace is whom a notice is for: the page of one webhook, empty for the account's first one, in the portal or not.
type noticePlace struct {
	scope       scope
	account, id string
	page        string // empty: the settings
}

// path is the page's: the browser brings the cookie nowhere else.
func (p noticePlace) path() string { return p.scope.Base + cmp.Or(p.page, settingsPath) }

// cookie names one for each webhook, so that two open pages do not take each other's.
func (p noticePlace) cookie() string {
	sum := sha256.Sum256([]byte(p.account + "\x00" + p.id))
	return "fanout_notice_" + hex.EncodeToString(sum[:6])
}

// bound is what the seal is good for, besides the notice itself.
func (p noticePlace) bound() []byte { return []byte(p.path() + "\x00" + p.account + "\x00" + p.id) }

// give is the cookie that takes a notice to a page. What was tested is shortened until it fits.
func (s *noticeSeal) give(r *http.Request, at noticePlace, n notice) *http.Cookie {
	n.Expires = time.Now().Add(noticeLasts).Unix()
	if n.Link != nil {
		link := *n.Link
		link.Account = "" // the page knows it, and it may be long
		n.Link = &link
	}
	value := s.seal(at, &n)
	for len(value) > maxNotice && n.Tested != nil {
		short := *n.Tested
		short.Response, short.Request, short.Detail = shorter(short.Response), shorter(short.Request), shorter(short.Detail)
		n.Tested = &short
		value = s.seal(at, &n)
	}
	return s.asCookie(r, at, value, int(noticeLasts.Seconds()))
}

// shorter is about two thirds of a text.
func shorter(text string) string {
	text = strings.TrimSuffix(text, "…")
	if text == "" {
		return ""
	}
	return strings.ToValidUTF8(text[:len(text)*2/3], "") + "…"
}

func (s *noticeSeal) seal(at noticePlace, n *notice) string {
	data, err := json.Marshal(n) //nolint:gosec // it is encrypted below
	if err != nil {              // it is plain data
		return ""
	}
	nonce := make([]byte, s.aead.NonceSize())
	_, _ = rand.Read(nonce)
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nonce, nonce, data, at.bound()))
}

// take reads the notice for a page, and the cookie that removes it; both are nil where there is none. What a browser loads
// on the chance that somebody will look at it takes nothing.
func (s *noticeSeal) take(r *http.Request, at noticePlace) (*notice, *http.Cookie) {
	cookie, err := r.Cookie(at.cookie())
	if err != nil || r.Method != http.MethodGet || r.Header.Get("Sec-Purpose") != "" {
		return nil, nil
	}
	gone := s.asCookie(r, at, "", -1)
	data, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil || len(data) < s.aead.NonceSize() {
		return nil, gone
	}
	nonce, sealed := data[:s.aead.NonceSize()], data[s.aead.NonceSize():]
	n := new(notice)
	open, err := s.aead.Open(nil, nonce, sealed, at.bound())
	if err != nil || json.Unmarshal(open, n) != nil || time.Now().Unix() >= n.Expires {
		return nil, gone
	}
	if n.Link != nil {
		n.Link.Account = at.account
	}
	return n, gone
}

func (s *noticeSeal) asCookie(r *http.Request, at noticePlace, value string, maxAge int) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // Secure where TLS is spoken; on loopback it is not
		Name: at.cookie(), Value: value, Path: at.path(), MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: overTLS(r),
	}
}
