package admin

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"fanout/subscriptions"
	"fanout/topic"
)

// How long a portal link is valid, unless asked otherwise.
const portalLasts = 7 * 24 * time.Hour

// Kinds of portal links. Through a read-only one nothing is changed and nothing sent.
const (
	linkFull     = "full"
	linkReadOnly = "read-only"
)

func linkKinds() []string { return []string{linkFull, linkReadOnly} }

// grant is the content of a portal link's token, and of its cookie: its holder acts as that account, and no other, until it
// expires.
type grant struct {
	Account string `json:"account"`
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	Expires int64  `json:"exp"` // Unix seconds
}

// valid says whether the grant says all that it must, and has not expired.
func (g *grant) valid() bool {
	return g.Account != "" && g.ID != "" && slices.Contains(linkKinds(), g.Kind) && time.Now().Unix() < g.Expires
}

// portalLink is the only answer that shows the link.
type portalLink struct {
	ID      string    `json:"id"`
	Account string    `json:"account"`
	Kind    string    `json:"kind"`
	URL     string    `json:"url"`
	Expires time.Time `json:"expires"`
}

// listedLink is a link without what opens it.
type listedLink struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`
	Expires time.Time `json:"expires"`
}

func (a *api) createPortalLink(w http.ResponseWriter, r *http.Request) error {
	account := r.PathValue("account")
	if bad := subscriptions.CheckIdentity(account, "x"); bad != nil {
		return bad
	}
	var ask struct {
		ExpiresIn *whole  `json:"expiresInSeconds"`
		Kind      *string `json:"kind"`
	}
	if err := decode(r, &ask); err != nil {
		return err
	}
	lasts, kind := portalLasts, linkFull
	var bad []badField
	if ask.ExpiresIn != nil {
		lasts = time.Duration(*ask.ExpiresIn) * time.Second
		if *ask.ExpiresIn < 1 || *ask.ExpiresIn > whole(subscriptions.PortalLinkMax/time.Second) {
			bad = append(bad, badField{"expiresInSeconds", "must be from 1 to 7776000 (90 days)"})
		}
	}
	if ask.Kind != nil {
		if kind = *ask.Kind; !slices.Contains(linkKinds(), kind) {
			bad = append(bad, badField{"kind", "must be one of " + strings.Join(linkKinds(), ", ")})
		}
	}
	if bad != nil {
		return invalid(bad...)
	}
	link, err := a.newLink(r, account, kind, lasts)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, "application/json", link)
	return nil
}

var errNoLinks = problemf(http.StatusConflict, "portal links need admin.token in the configuration: they are signed with a key that is derived from it")

// newLink makes a link and stores it.
func (p *panel) newLink(r *http.Request, account, kind string, lasts time.Duration) (portalLink, error) {
	if p.portalKey == nil {
		return portalLink{}, errNoLinks
	}
	expires := time.Now().Add(lasts).Truncate(time.Second).UTC()
	g := grant{account, strings.ToLower(rand.Text()), kind, expires.Unix()}
	if err := p.Store.AddPortalLink(r.Context(), account, subscriptions.PortalLink{ID: g.ID, Kind: kind, Expires: expires}); err != nil {
		return portalLink{}, err
	}
	p.record(p.callerOf(r, scope{}), &topic.EndpointEvent{
		Kind: topic.KindLinkCreated, Account: account, Detail: kind + " link " + g.ID + ", until " + expires.Format(time.RFC3339),
	})
	return portalLink{g.ID, account, kind, p.portalBase(r) + "/portal/" + signed(p.portalKey, g) + "/", expires}, nil
}

func (a *api) listPortalLinks(w http.ResponseWriter, r *http.Request) error {
	account := r.PathValue("account")
	if bad := subscriptions.CheckIdentity(account, "x"); bad != nil {
		return bad
	}
	list, err := a.links(r.Context(), account)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, "application/json", map[string]any{"portalLinks": list})
	return nil
}

func (p *panel) links(ctx context.Context, account string) ([]listedLink, error) {
	stored, err := p.Store.PortalLinks(ctx, account)
	list := make([]listedLink, len(stored))
	for i, link := range stored {
		list[i] = listedLink{link.ID, link.Kind, link.Expires.UTC()}
	}
	return list, err
}

func (a *api) revokePortalLink(w http.ResponseWriter, r *http.Request) error {
	account, id, err := identity(r)
	if err != nil {
		return err
	}
	if err := a.revokeLink(r, account, id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (p *panel) revokeLink(r *http.Request, account, id string) error {
	if err := p.Store.RevokePortalLink(r.Context(), account, id); err != nil {
		return err
	}
	p.record(p.callerOf(r, scope{}), &topic.EndpointEvent{Kind: topic.KindLinkRevoked, Account: account, Detail: "link " + id})
	return nil
}

var (
	errNoPortal   = problemf(http.StatusNotFound, "this link does not work: it has expired, was revoked, or is incomplete. Ask for a new one.")
	errNotOpened  = problemf(http.StatusUnauthorized, "open the link that you were given once more: this browser has no cookie of it, or does not send it")
	errReadOnly   = problemf(http.StatusForbidden, "this link is for looking only: nothing can be changed or sent through it")
	errNotOurPage = problemf(http.StatusForbidden, "a request that changes something must come from a page of this address")
)

// granted says that a grant is good: it has not expired, and Redis still has it. If Redis cannot say, it opens nothing.
func (p *panel) granted(ctx context.Context, g *grant) error {
	if !g.valid() {
		return errNoPortal
	}
	known, err := p.Store.HasPortalLink(ctx, g.Account, g.ID)
	if err == nil && !known {
		err = errNoPortal
	}
	return err
}

// portalCookie is the name of a link's cookie. Each link has its own, so that two accounts can be open side by side.
func portalCookie(id string) string { return "fanout_portal_" + id }

// openPortal turns a link's token into a cookie, which is sent with the portal's own paths only, and goes on to an address
// without the token: that stands in no history, log or bookmark then.
func (p *pages) openPortal(w http.ResponseWriter, r *http.Request) {
	token := r.PathValue("link")
	var g grant
	if !opened(p.portalKey, token, &g) {
		if strings.Contains(token, ".") {
			p.sessions.guesses.wrong(doorPortal, r)
		}
		p.fail(w, scope{Portal: true}, errNoPortal)
		return
	}
	if err := p.granted(r.Context(), &g); err != nil {
		p.fail(w, scope{Portal: true}, err)
		return
	}
	base := "/portal/" + g.ID
	cookie := &http.Cookie{ //nolint:gosec // Secure where TLS is spoken; on loopback it is not
		Name: portalCookie(g.ID), Value: signed(p.cookieKey, g), Path: base + "/", Expires: time.Unix(g.Expires, 0), HttpOnly: true,
		SameSite: http.SameSiteLaxMode, Secure: p.portalOverTLS(r),
	}
	if len(p.cfg.Portal.FrameAncestors) > 0 && cookie.Secure { // in a frame of another site, Lax cookies do not come
		cookie.SameSite, cookie.Partitioned = http.SameSiteNoneMode, true
	}
	http.SetCookie(w, cookie)
	http.Redirect(w, r, base+settingsPath, http.StatusSeeOther)
}

// portalGrant is what the cookie of the link in the path grants. Nothing else in the request says anything.
func (p *pages) portalGrant(r *http.Request) (*grant, error) {
	id := r.PathValue("link")
	cookie, err := r.Cookie(portalCookie(id))
	if err != nil {
		if strings.Contains(id, ".") { // the token with something behind it
			return nil, errNoPortal
		}
		return nil, errNotOpened
	}
	var g grant
	if !opened(p.cookieKey, cookie.Value, &g) || g.ID != id {
		return nil, errNoPortal
	}
	if err := p.granted(r.Context(), &g); err != nil {
		return nil, err
	}
	if r.Method != http.MethodGet && !p.fromOurPage(r) {
		return nil, errNotOurPage
	}
	return &g, nil
}

var errNoBearer = problemf(http.StatusUnauthorized, "this link does not work: it has expired, was revoked, or is incomplete. Ask for a new one.")

// portalBearer is what the link in the path grants to a program, which shows its token as Authorization: Bearer, or to a browser,
// which sends its cookie.
func (p *pages) portalBearer(r *http.Request) (*grant, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		g, err := p.portalGrant(r)
		if errors.Is(err, errNoPortal) {
			err = errNoBearer
		}
		return g, err
	}
	var g grant
	if !opened(p.portalKey, token, &g) || g.ID != r.PathValue("link") {
		p.sessions.guesses.wrong(doorPortal, r)
		return nil, errNoBearer
	}
	err := p.granted(r.Context(), &g)
	if errors.Is(err, errNoPortal) {
		err = errNoBearer
	}
	return &g, err
}

// fromOurPage says whether a browser sent it from a page of this address. Every browser says where a POST comes from.
func (p *panel) fromOurPage(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin"
	}
	if public := cmp.Or(p.cfg.Portal.PublicURL, p.cfg.PublicURL); public != "" && r.Header.Get("Origin") == strings.TrimRight(public, "/") {
		return true
	}
	origin, err := url.Parse(r.Header.Get("Origin"))
	return err == nil && origin.Host != "" && strings.EqualFold(origin.Host, r.Host)
}
