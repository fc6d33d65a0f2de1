package admin

import (
	"net"
	"net/http"
	"strings"
)

// ours refuses a Host that is not this machine's where the listener is a loopback one (DNS rebinding). Others can
// reach any other listener under names we cannot know; there the token guards.
func (s *Server) ours(next http.Handler) http.Handler {
	if !Loopback(s.cfg.Listen) {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), "80")
		}
		if !Loopback(strings.ToLower(host)) {
			problemf(http.StatusMisdirectedRequest, "this listener answers to localhost only").write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// authorized asks for the token where one is set, or for the cookie of who signed in with it.
func (s *Server) authorized(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.sessions.signedIn(r) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="fanout"`)
			problemf(http.StatusUnauthorized, "this needs Authorization: Bearer <admin.token>").write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}
