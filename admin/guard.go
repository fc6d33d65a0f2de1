package admin

import (
	"net"
	"net/http"
	"strings"
	"time"
)

// ours refuses a Host that does not name this machine if the listener is a loopback one (DNS rebinding). Any other
// listener can be reached under names that we cannot know; there the token protects it.
func (s *Server) ours(d *door, next http.Handler) http.Handler {
	if !Loopback(d.listen) {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), "80")
		}
		if !Loopback(strings.ToLower(host)) && !d.knows(r.Host) {
			s.refuse(w, r, problemf(http.StatusMisdirectedRequest, "this address is answered under the name localhost only, so that no web page can reach it through a name of its own"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// authorized requires the token, if one is set, or the cookie of a session.
func (s *Server) authorized(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.sessions.signedIn(r) && !s.keys.fromInstance(r, time.Now()) {
			if wantsPage(r) {
				toSignIn(w, r)
				return
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="fanout"`)
			if wait := s.sessions.refused(r); wait > 0 {
				problemf(http.StatusTooManyRequests, "too many wrong tokens: try again in %s; the right one is taken at any time", plural(retryAfter(w, wait), "second")).write(w)
				return
			}
			problemf(http.StatusUnauthorized, "this needs the header Authorization: Bearer <admin.token>").write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// sameOrigin refuses requests that change something and come from another origin.
func (s *Server) sameOrigin(d *door, next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	if d.public != "" { // a proxy in front may ask under another name
		_ = protection.AddTrustedOrigin(strings.TrimRight(d.public, "/")) // the configuration has been validated
	}
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, r, problemf(http.StatusForbidden, "requests that change something must come from this origin"))
	}))
	return protection.Handler(next)
}

// refuse answers a person's browser with a page, and every other client with JSON.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, why *problem) {
	if wantsPage(r) {
		s.pages.fail(w, scope{}, why)
		return
	}
	why.write(w)
}
