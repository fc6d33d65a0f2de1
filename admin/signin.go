package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// signInBody is the form that asks for the token.
type signInBody struct {
	Next    string // where to go then
	Problem string
}

// toSignIn sends a browser to the form, and from there back.
func toSignIn(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, "/sign-in?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
}

func (p *pages) signInForm(w http.ResponseWriter, r *http.Request) {
	next := r.URL.Query().Get("next")
	if p.sessions.signedIn(r) {
		http.Redirect(w, r, local(next), http.StatusSeeOther) //nolint:gosec // local lets no other host through; a test tries
		return
	}
	p.render(w, http.StatusOK, "sign-in", view{Title: "Sign in", Body: signInBody{Next: next}})
}

func (p *pages) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	next := r.PostFormValue("next")
	if p.sessions.sameToken(r.PostFormValue("token")) {
		p.sessions.begin(w, r)
		http.Redirect(w, r, local(next), http.StatusSeeOther)
		return
	}
	status, text := http.StatusUnauthorized, "That is not the token."
	if wait := p.sessions.guesses.wrong(doorForm, r); wait > 0 {
		seconds := retryAfter(w, wait)
		status, text = http.StatusTooManyRequests, fmt.Sprintf("Too many wrong tokens, from here or elsewhere. Try again in %s; the right one is taken at any time.", plural(seconds, "second"))
	}
	p.render(w, status, "sign-in", view{Title: "Sign in", Body: signInBody{next, text}})
}

func (p *pages) signOut(w http.ResponseWriter, r *http.Request) {
	p.sessions.end(w, r)
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

// local is next if that is a path on this server, else "/": nobody is sent elsewhere after signing in.
func local(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n") {
		return "/"
	}
	return next
}
