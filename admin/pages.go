package admin

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

//go:embed web
var web embed.FS

// pages are the dashboard and the portal: the same pages, written by the server. All that is live is a part of a page
// written again and sent as an event.
type pages struct {
	*panel
	templates map[string]*template.Template
	code      []codeSample
}

// scope is who looks. In the portal it is one account, known from the link's token alone.
type scope struct {
	Portal  bool
	Account string // of the portal
	Base    string // what paths begin with
	SignOut bool
}

// view is what a template is given.
type view struct {
	scope
	Title string
	Nav   string
	Live  string // where the live part comes from
	Body  any
}

// pageFunc answers with what the template is given; its error becomes a page too.
type pageFunc func(r *http.Request, s scope) (view, error)

func newPages(p *panel) (*pages, error) {
	pg := &pages{panel: p, templates: map[string]*template.Template{}}
	layout, err := template.New("").Funcs(functions()).ParseFS(web, "web/layout.html")
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"sign-in", "error", "overview", "endpoints", "endpoint", "dead-letters", "dead-letter", "plan", "replay", "settings"} {
		t, err := layout.Clone()
		if err == nil {
			pg.templates[name], err = t.ParseFS(web, "web/"+name+".html")
		}
		if err != nil {
			return nil, err
		}
	}
	pg.code, err = codeSamples()
	return pg, err
}

func (p *pages) register(mux *http.ServeMux) {
	files, err := fs.Sub(web, "web")
	if err == nil { // web is embedded
		mux.Handle("GET /assets/", assets(http.StripPrefix("/assets/", http.FileServerFS(files))))
	}
	mux.HandleFunc("GET /sign-in", p.signInForm)
	mux.HandleFunc("POST /sign-in", p.signIn)
	mux.HandleFunc("POST /sign-out", p.signOut)

	// For the operator alone.
	p.operator(mux, "GET /{$}", "overview", p.overview)
	p.operator(mux, "POST /accept", "", p.accept)
	p.operator(mux, "/", "", func(*http.Request, scope) (view, error) {
		return view{}, problemf(http.StatusNotFound, "there is no such page")
	})
	// For both.
	for _, page := range []struct {
		method, path, name string
		f                  pageFunc
	}{
		{"GET", "/settings", "", p.toSettings},
		{"GET", "/settings/events-webhook", "settings", p.settings},
		{"POST", "/settings/events-webhook", "settings", p.changeSettings},
		{"GET", "/endpoints", "endpoints", p.endpoints},
		{"GET", "/endpoints/show", "endpoint", p.endpoint},
		{"GET", "/dead-letters", "dead-letters", p.deadLetters},
		{"GET", "/dead-letters/show", "dead-letter", p.deadLetter},
		{"POST", "/dead-letters/replay", "plan", p.planReplay},
		{"GET", "/replays/{name}", "replay", p.replay},
		{"POST", "/replays/{name}/cancel", "", p.stopReplay},
	} {
		p.operator(mux, page.method+" "+page.path, page.name, page.f)
		mux.HandleFunc(page.method+" /portal/{token}"+page.path, p.inPortal(page.name, page.f))
	}
	mux.HandleFunc("GET /portal/{token}/{$}", p.inPortal("", p.toSettings))
	mux.HandleFunc("GET /portal/{token}", p.inPortal("", p.toSettings))
	mux.HandleFunc("/portal/", func(w http.ResponseWriter, _ *http.Request) { p.fail(w, scope{Portal: true}, errNoPortal) })
}

// assets may be kept for a while, unlike everything else.
func assets(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name := r.URL.Path; strings.HasSuffix(name, "/") || strings.HasSuffix(name, ".html") {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Cache-Control", "private, max-age=300")
		next.ServeHTTP(w, r)
	})
}

// operator adds a page for who is signed in; who is not is asked to.
func (p *pages) operator(mux *http.ServeMux, pattern, name string, f pageFunc) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if !p.sessions.signedIn(r) {
			http.Redirect(w, r, "/sign-in?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
			return
		}
		p.serve(w, r, scope{SignOut: p.portalKey != nil}, name, f)
	})
}

// inPortal adds a page for who holds a portal link. The account is the token's: nothing else in the request names one.
func (p *pages) inPortal(name string, f pageFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token := r.PathValue("token")
		account, err := p.portalAccount(r.Context(), token)
		if err != nil {
			p.fail(w, scope{Portal: true}, err)
			return
		}
		p.serve(w, r, scope{Portal: true, Account: account, Base: "/portal/" + token}, name, f)
	}
}

// moved is a pageFunc's error that sends the browser elsewhere.
type moved string

func (m moved) Error() string { return "see " + string(m) }

func (p *pages) serve(w http.ResponseWriter, r *http.Request, s scope, name string, f pageFunc) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); !ok {
			err = problemf(http.StatusBadRequest, "the form cannot be read")
		}
		p.fail(w, s, err)
		return
	}
	if r.Method == http.MethodGet && r.Form.Has("live") && p.templates[name] != nil && p.templates[name].Lookup("live") != nil {
		p.stream(w, r, s, name, f)
		return
	}
	v, err := f(r, s)
	if to, ok := errors.AsType[moved](err); ok {
		http.Redirect(w, r, s.Base+string(to), http.StatusSeeOther)
		return
	}
	if err != nil {
		p.fail(w, s, err)
		return
	}
	v.scope = s
	live := r.URL.Query()
	live.Set("live", "1")
	v.Live = r.URL.Path + "?" + live.Encode()
	p.render(w, http.StatusOK, name, v)
}

func (p *pages) render(w http.ResponseWriter, status int, name string, v view) {
	var page bytes.Buffer
	if err := p.templates[name].ExecuteTemplate(&page, "layout", v); err != nil {
		problemf(http.StatusInternalServerError, "page %s: %v", name, err).write(w)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes())
}

func (p *pages) fail(w http.ResponseWriter, s scope, err error) {
	bad := asProblem(err)
	nav := "-"
	if s.Portal && s.Account == "" {
		nav = ""
	}
	p.render(w, bad.Status, "error", view{scope: s, Title: bad.Title, Nav: nav, Body: bad})
}

// streamEvery is how soon a change is seen. streamLasts bounds a stream: the browser comes back, and is asked again who
// it is.
const (
	streamEvery = time.Second
	streamLasts = 5 * time.Minute
)

// stream sends the live part of a page whenever it has changed, as a server-sent event.
func (p *pages) stream(w http.ResponseWriter, r *http.Request, s scope, name string, f pageFunc) {
	ctx, cancel := context.WithTimeout(r.Context(), streamLasts)
	defer cancel()
	r = r.WithContext(ctx)
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	tick := time.NewTicker(streamEvery)
	defer tick.Stop()
	var last []byte
	for {
		if s.Portal { // it may have been revoked
			if account, err := p.portalAccount(ctx, r.PathValue("token")); err != nil || account != s.Account {
				return
			}
		} else if !p.sessions.signedIn(r) {
			return
		}
		v, err := f(r, s)
		if err != nil && last == nil {
			p.fail(w, s, err)
			return
		}
		if err == nil { // else it stays as it was
			var part bytes.Buffer
			if p.templates[name].ExecuteTemplate(&part, "live", v.Body) != nil {
				return
			}
			if !bytes.Equal(part.Bytes(), last) {
				last = part.Bytes()
				var event bytes.Buffer
				event.WriteString("event: live\n")
				for line := range bytes.Lines(last) {
					event.WriteString("data: ")
					event.Write(bytes.TrimRight(line, "\r\n"))
					event.WriteByte('\n')
				}
				event.WriteByte('\n')
				if _, err := w.Write(event.Bytes()); err != nil {
					return
				}
			}
		}
		if out.Flush() != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-p.closing:
			return
		case <-tick.C:
		}
	}
}

func (p *pages) signInForm(w http.ResponseWriter, r *http.Request) {
	next := r.URL.Query().Get("next")
	if p.sessions.signedIn(r) {
		http.Redirect(w, r, local(next), http.StatusSeeOther) //nolint:gosec // local lets no other host through; a test tries
		return
	}
	p.render(w, http.StatusOK, "sign-in", view{Title: "Sign in", Body: map[string]string{"Next": next, "Problem": ""}})
}

func (p *pages) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	next := r.PostFormValue("next")
	ok, wait := p.sessions.try(r, r.PostFormValue("token"))
	if ok {
		p.sessions.begin(w, r)
		http.Redirect(w, r, local(next), http.StatusSeeOther) //nolint:gosec // local lets no other host through; a test tries
		return
	}
	status, text := http.StatusUnauthorized, "This is not the token."
	if wait > 0 {
		seconds := int(wait.Seconds()) + 1
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		status, text = http.StatusTooManyRequests, fmt.Sprintf("Too many tries. Try again in %d seconds.", seconds)
	}
	p.render(w, status, "sign-in", view{Title: "Sign in", Body: map[string]string{"Next": next, "Problem": text}})
}

func (p *pages) signOut(w http.ResponseWriter, r *http.Request) {
	p.sessions.end(w, r)
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

// local is a path on this server: nobody is sent elsewhere after signing in.
func local(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n") {
		return "/"
	}
	return next
}

func (p *pages) toSettings(*http.Request, scope) (view, error) {
	return view{}, moved("/settings/events-webhook")
}
