package admin

import (
	"cmp"
	"embed"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

//go:embed web
var web embed.FS

// pages are the dashboard and the portal: the same pages, rendered by the server. They work without JavaScript; with it,
// the live part of a page is fetched again and again.
type pages struct {
	*panel
	*templates
	code    []codeSample
	notices *noticeSeal
	markKey []byte // of the settings' marks
}

// pageFunc gathers what a page shows; its error becomes a page too.
type pageFunc func(r *http.Request, s scope) (view, error)

func newPages(p *panel, t *templates, keys Keys) (*pages, error) {
	code, err := codeSamples()
	if err != nil {
		return nil, err
	}
	notices, err := newNoticeSeal(keys)
	all := &pages{panel: p, templates: t, code: code, notices: notices, markKey: keys.orRandom(forSettings)}
	t.verdict = all.verdict
	return all, err
}

// pageRoute is a page: what GET shows, and what a form on it does. After a POST that changed something the browser is
// sent to a GET (moved), so that a reload repeats nothing.
type pageRoute struct {
	path, template string
	get, post      pageFunc // post may be nil
}

// operatorPages are for the operator alone.
func (p *pages) operatorPages() []pageRoute {
	return []pageRoute{
		{"/{$}", "overview", p.overview, nil},
		{"/accept", "", to("/"), p.accept},
		{explainPath, "explain", p.explain, nil},
	}
}

// sharedPages are for the operator, and in the portal for one account.
func (p *pages) sharedPages() []pageRoute {
	return []pageRoute{
		{"/settings", "", to("/settings/events-webhook"), nil},
		{"/settings/events-webhook", "settings", p.settings, p.changeSettings},
		{"/endpoints", "endpoints", p.endpoints, nil},
		{endpointPath, "endpoint", p.endpoint, p.changeEndpoint},
		{"/verdict", "verdict", p.verdictPage, nil},
		{"/became", "", p.became, nil},
		{deliveriesPath, "deliveries", p.deliveriesPage, nil},
		{deliveryPath, "delivery", p.delivery, nil},
		{resendPath, "resend", p.planResend, p.sendAgain},
		{"/dead-letters", "dead-letters", p.deadLetters, nil},
		{"/dead-letters/show", "dead-letter", p.deadLetter, nil},
		{"/dead-letters/replay", "plan", p.planReplay, p.startReplay},
		{"/replays/{name}", "replay", p.replay, nil},
		{"/replays/{name}/cancel", "", p.toReplay, p.cancelReplay},
		{backfillPath, "backfill-plan", p.planBackfill, p.beginBackfill},
		{"/backfills/{name}", "backfill", p.backfill, nil},
		{"/backfills/{name}/cancel", "", p.toBackfill, p.endBackfill},
	}
}

func (p *pages) registerAssets(d *door) { d.handle("GET "+assetsPath, p.files) }

func (p *pages) registerOperators(d *door) {
	d.handle("GET /sign-in", http.HandlerFunc(p.signInForm))
	d.handle("POST /sign-in", http.HandlerFunc(p.signIn))
	d.handle("GET /sign-out", http.RedirectHandler("/", http.StatusSeeOther))
	d.handle("POST /sign-out", http.HandlerFunc(p.signOut))

	for _, page := range append(p.operatorPages(), p.sharedPages()...) {
		d.handle("GET "+page.path, p.operator(page.template, page.get))
		if page.post != nil {
			d.handle("POST "+page.path, p.operator(page.template, page.post))
		}
	}
	d.handle("/", p.operator("", nowhere))
}

func (p *pages) registerPortal(d *door) {
	p.brand.register(d)
	const portal = "/portal/{link}"
	for _, page := range p.sharedPages() {
		d.handle("GET "+portal+page.path, p.inPortal(page.template, page.get))
		if page.post != nil {
			d.handle("POST "+portal+page.path, p.inPortal(page.template, page.post))
		}
	}
	d.handle("GET "+portal+"/api/v1/deliveries", http.HandlerFunc(p.portalDeliveries))
	d.handle("GET "+portal+"/api/v1/stream", http.HandlerFunc(p.portalStream))
	d.handle("GET "+portal, http.HandlerFunc(p.enterPortal))
	d.handle("GET "+portal+"/{$}", http.HandlerFunc(p.enterPortal))
	d.handle(portal+"/", p.inPortal("", nowhere))
	d.handle("/portal/", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { p.fail(w, scope{Portal: true}, errNoPortal) }))
}

// enterPortal opens a link, or goes to the settings of one that is open.
func (p *pages) enterPortal(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.PathValue("link"), ".") {
		p.openPortal(w, r)
		return
	}
	p.inPortal("", to(settingsPath))(w, r)
}

// kept lets a browser keep an answer for a while, unlike everything else.
func kept(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "private, max-age=300")
		next.ServeHTTP(w, r)
	})
}

// operator serves a page to whoever is signed in, and sends everybody else to the form.
func (p *pages) operator(template string, f pageFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case p.sessions.signedIn(r):
			p.serve(w, r, scope{SignOut: p.portalKey != nil, Entered: true}, template, f)
		case r.URL.Query().Has("live"):
			p.fail(w, scope{}, problemf(http.StatusUnauthorized, "sign in again to see more"))
		case r.Method != http.MethodGet:
			p.fail(w, scope{}, errSignedOut)
		default:
			toSignIn(w, r)
		}
	}
}

// errSignedOut is for a form that was filled in while the session ended: a redirection would lose it.
var errSignedOut = problemf(http.StatusUnauthorized, "nothing was done, because your session has ended. Sign in in another tab, then reload this page: your browser sends once more what you typed")

// inPortal serves a page to whoever has opened a portal link. The account is the cookie's: nothing else in the request
// names one. Through a read-only link nothing is sent or changed.
func (p *pages) inPortal(template string, f pageFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		g, err := p.portalGrant(r)
		if err != nil {
			p.fail(w, scope{Portal: true}, err)
			return
		}
		s := scope{Portal: true, Entered: true, ReadOnly: g.Kind == linkReadOnly, Account: g.Account, Link: g.ID, Base: "/portal/" + g.ID}
		if s.ReadOnly && r.Method != http.MethodGet {
			p.fail(w, s, errReadOnly)
			return
		}
		p.serve(w, r, s, template, f)
	}
}

// moved is a pageFunc's error that sends the browser elsewhere. It is a path without the scope's base.
type moved string

func (m moved) Error() string { return "see " + string(m) }

// to is a page that only sends the browser elsewhere.
func to(path string) pageFunc {
	return func(*http.Request, scope) (view, error) { return view{}, moved(path) }
}

func nowhere(*http.Request, scope) (view, error) {
	return view{}, problemf(http.StatusNotFound, "there is no such page")
}

func (p *pages) serve(w http.ResponseWriter, r *http.Request, s scope, template string, f pageFunc) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); !ok {
			err = problemf(http.StatusBadRequest, "the form cannot be read")
		}
		p.fail(w, s, err)
		return
	}
	v, err := f(r, s)
	if v.Cookie != nil {
		http.SetCookie(w, v.Cookie)
	}
	if to, ok := errors.AsType[moved](err); ok {
		http.Redirect(w, r, s.Base+string(to), http.StatusSeeOther)
		return
	}
	if err != nil {
		p.fail(w, s, err)
		return
	}
	v.scope = s
	if r.Method == http.MethodGet && p.live(template) {
		v.Live = liveURL(r.URL)
		if r.Form.Has("live") {
			p.renew(w, r, template, v)
			return
		}
	}
	p.render(w, cmp.Or(v.Status, http.StatusOK), template, v)
}

// liveURL is where the live part of the page at u comes from.
func liveURL(u *url.URL) string {
	q := u.Query()
	q.Set("live", "1")
	return u.Path + "?" + q.Encode()
}
