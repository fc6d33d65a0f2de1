package admin

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Sessions of people who signed in with the token in a form.
const (
	sessionCookie = "fanout_session"
	sessionLasts  = 12 * time.Hour
)

// signed returns text that only the holder of the key can make: base64url(JSON).base64url(HMAC-SHA256).
func signed(key []byte, v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	text := base64.RawURLEncoding.EncodeToString(data)
	return text + "." + base64.RawURLEncoding.EncodeToString(sum(key, text))
}

// opened reads signed text into v. It returns false if the text was not made with the key.
func opened(key []byte, token string, v any) bool {
	if key == nil {
		return false
	}
	text, mac, ok := strings.Cut(token, ".")
	got, err := base64.RawURLEncoding.DecodeString(mac)
	if !ok || err != nil || !hmac.Equal(got, sum(key, text)) {
		return false
	}
	data, err := base64.RawURLEncoding.DecodeString(text)
	return err == nil && json.Unmarshal(data, v) == nil
}

func sum(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// session is what the cookie holds.
type session struct {
	ID      string `json:"id"`
	Expires int64  `json:"exp"` // Unix seconds
}

// sessions signs people in. Sessions are not stored: the cookie is signed, so it is valid on every instance.
type sessions struct {
	token string
	key   []byte

	guesses *guesses

	mu    sync.Mutex           // guards all below
	ended map[string]time.Time // by sign-out on this instance, until they expire
}

func newSessions(token string, keys Keys, guesses *guesses) *sessions {
	return &sessions{token: token, key: keys.orRandom(forSession), guesses: guesses, ended: map[string]time.Time{}}
}

// sameToken compares hashes of equal length, so that the time taken says nothing of the token, its length included.
func (s *sessions) sameToken(given string) bool {
	want, got := sha256.Sum256([]byte(s.token)), sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// signedIn says whether the request carries the token, or the cookie of a session. Whether a request that does not is one
// guess too many is what refused says.
func (s *sessions) signedIn(r *http.Request) bool {
	if s.token == "" {
		return true
	}
	if token, given := bearer(r); given && s.sameToken(token) {
		return true
	}
	is, ok := s.session(r)
	if !ok {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, out := s.ended[is.ID]
	return !out
}

// bearer is the token that a request carries.
func bearer(r *http.Request) (token string, given bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return token, strings.EqualFold(scheme, "Bearer")
}

func (s *sessions) session(r *http.Request) (is session, ok bool) {
	cookie, err := r.Cookie(sessionCookie)
	ok = err == nil && opened(s.key, cookie.Value, &is) && time.Now().Unix() < is.Expires
	return is, ok
}

func (s *sessions) begin(w http.ResponseWriter, r *http.Request) {
	is := session{rand.Text(), time.Now().Add(sessionLasts).Unix()}
	s.cookie(w, r, signed(s.key, is), int(sessionLasts.Seconds()))
}

func (s *sessions) end(w http.ResponseWriter, r *http.Request) {
	if is, ok := s.session(r); ok {
		s.mu.Lock()
		for id, expires := range s.ended {
			if time.Now().After(expires) {
				delete(s.ended, id)
			}
		}
		s.ended[is.ID] = time.Unix(is.Expires, 0)
		s.mu.Unlock()
	}
	s.cookie(w, r, "", -1)
}

func (s *sessions) cookie(w http.ResponseWriter, r *http.Request, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure where TLS is spoken; on loopback it is not
		Name: sessionCookie, Value: value, Path: "/", MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: overTLS(r),
	})
}

// overTLS says whether the browser speaks TLS, to us or to a proxy in front.
func overTLS(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}
