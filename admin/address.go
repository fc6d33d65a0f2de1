package admin

import (
	"cmp"
	"net"
	"net/http"
	"strings"
)

// portalBase is what a portal link begins with. Without a public address of the configuration it is the one that the operator
// asks under, on the portal's own listener where there is one.
func (p *panel) portalBase(r *http.Request) string {
	if public := cmp.Or(p.cfg.Portal.PublicURL, p.cfg.PublicURL); public != "" {
		return strings.TrimRight(public, "/")
	}
	scheme := "http://"
	if overTLS(r) {
		scheme = "https://"
	}
	return scheme + p.portalHost(r.Host)
}

// portalHost is the host of the portal, for somebody who knows us as host.
func (p *panel) portalHost(host string) string {
	if p.portalAddr == nil {
		return host
	}
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	_, port, _ := net.SplitHostPort(p.portalAddr.String()) // it is host:port
	return net.JoinHostPort(name, port)
}

// portalOverTLS says whether a customer's browser speaks TLS.
func (p *panel) portalOverTLS(r *http.Request) bool {
	return overTLS(r) || strings.HasPrefix(cmp.Or(p.cfg.Portal.PublicURL, p.cfg.PublicURL), "https:")
}
