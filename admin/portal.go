package admin

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
	"time"

	"fanout/subscriptions"
)

// How long a portal link is good.
const (
	portalLasts    = 7 * 24 * time.Hour
	portalLastsMax = subscriptions.PortalLinkMax
)

// grant is what a portal link's token says: who holds it is that account, and nobody else, until it expires.
type grant struct {
	Account string `json:"account"`
	ID      string `json:"id"`
	Expires int64  `json:"exp"` // Unix seconds
}

// portalLink is the only answer that shows the link.
type portalLink struct {
	ID      string    `json:"id"`
	Account string    `json:"account"`
	URL     string    `json:"url"`
	Expires time.Time `json:"expires"`
}

func (a *api) createPortalLink(w http.ResponseWriter, r *http.Request) error {
	account := r.PathValue("account")
	if bad := subscriptions.CheckIdentity(account, "x"); bad != nil {
		return bad
	}
	var ask struct {
		ExpiresIn *whole `json:"expiresInSeconds"`
	}
	if err := decode(r, &ask); err != nil {
		return err
	}
	lasts := portalLasts
	if ask.ExpiresIn != nil {
		if *ask.ExpiresIn < 1 || *ask.ExpiresIn > whole(portalLastsMax/time.Second) {
			return invalid(badField{"expiresInSeconds", "want 1 to 7776000 (90 days)"})
		}
		lasts = time.Duration(*ask.ExpiresIn) * time.Second
	}
	link, err := a.newLink(r, account, lasts)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, "application/json", link)
	return nil
}

func (p *panel) newLink(r *http.Request, account string, lasts time.Duration) (portalLink, error) {
	if p.portalKey == nil {
		return portalLink{}, problemf(http.StatusConflict, "portal links are signed with a key derived from admin.token, and none is set")
	}
	expires := time.Now().Add(lasts).Truncate(time.Second).UTC()
	g := grant{account, strings.ToLower(rand.Text()), expires.Unix()}
	scheme := "http://"
	if overTLS(r) {
		scheme = "https://"
	}
	return portalLink{g.ID, account, scheme + r.Host + "/portal/" + signed(p.portalKey, g) + "/", expires}, nil
}

func (a *api) revokePortalLink(w http.ResponseWriter, r *http.Request) error {
	account, id, err := identity(r)
	if err != nil {
		return err
	}
	if err := a.Store.RevokePortalLink(r.Context(), account, id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

var errNoPortal = problemf(http.StatusNotFound, "this link does not work: it has expired, was revoked, or is not whole. Ask for a new one.")

// portalAccount is the account that a token opens. Where Redis cannot say whether it was revoked, it opens nothing.
func (p *panel) portalAccount(ctx context.Context, token string) (string, error) {
	var g grant
	if p.portalKey == nil || !opened(p.portalKey, token, &g) || time.Now().Unix() >= g.Expires {
		return "", errNoPortal
	}
	revoked, err := p.Store.PortalLinkRevoked(ctx, g.Account, g.ID)
	if err != nil {
		return "", err
	}
	if revoked {
		return "", errNoPortal
	}
	return g.Account, nil
}
