package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// openPortal is the portal that a link leads to, as a remote to ask: its paths begin with the link's id, and the link's token is shown with
// each request (docs/contract.md#portal-api). The link itself says the id, by where it leads.
func openPortal(ctx context.Context, link string) (remote, error) {
	u, err := url.Parse(link)
	var base, token string
	if err == nil {
		base, token, _ = strings.Cut(link, "/portal/")
		token, _, _ = strings.Cut(token, "/")
	}
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || token == "" {
		return remote{}, misusef("--portal-link is not a portal link, such as https://HOST/portal/TOKEN/")
	}
	r := remote{base: base}
	ctx, cancel := context.WithTimeout(ctx, remotePatience)
	defer cancel()
	answer, err := r.get(ctx, "/portal/"+token+"/")
	if err != nil {
		return remote{}, err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10))
	_, id, _ := strings.Cut(answer.Header.Get("Location"), "/portal/")
	id, _, _ = strings.Cut(id, "/")
	switch {
	case answer.StatusCode == http.StatusSeeOther && id != "":
		r.token, r.portal = token, "/portal/"+id
		return r, nil
	case answer.StatusCode == http.StatusServiceUnavailable || answer.StatusCode == http.StatusTooManyRequests:
		return remote{}, hint(fmt.Errorf("%s answers %d %s", base, answer.StatusCode, http.StatusText(answer.StatusCode)), "try again in a moment")
	}
	return remote{}, errNoLink(base)
}

// errNoLink is the error of a link that opens nothing.
func errNoLink(base string) error {
	return hint(fmt.Errorf("%s: %w", base, errLink), "ask for a new one")
}

var errLink = errors.New("the portal link does not work: it has expired, was revoked, or is incomplete")
