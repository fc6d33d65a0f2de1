package egress

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
)

// Proxy is an HTTP proxy that connections go through. Its own address is exempt from the rules.
type Proxy struct {
	TLS           bool   // it is spoken to over TLS
	Host          string // a name or an address, without brackets
	Port          uint16
	Authorization string // value of Proxy-Authorization; empty where the URL has no user info
	Names         bool   // it is given names, which it resolves itself; else addresses that were checked here
}

// Proxy is the proxy to go through; nil means to connect directly.
func (r *Rules) Proxy() *Proxy { return r.proxy }

func parseProxy(c Config) (*Proxy, error) {
	if c.Proxy == "" {
		if c.ProxyNames {
			return nil, errors.New("egress.proxy_names: there is no proxy to give names to; set egress.proxy, or remove it")
		}
		return nil, nil //nolint:nilnil // no proxy is a valid configuration
	}
	// The value may hold a password, so neither it nor url.Parse's error, which quotes it, is shown.
	u, err := url.Parse(c.Proxy)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("egress.proxy: the value is not a proxy's URL; write it as http://host:port, https://host:port or http://user:password@host:port")
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("egress.proxy: %q has no port; write it as %s://host:port", net.JoinHostPort(u.Hostname(), u.Port()), u.Scheme)
	}
	p := &Proxy{TLS: u.Scheme == "https", Host: u.Hostname(), Port: uint16(port), Names: c.ProxyNames}
	if u.User != nil {
		password, _ := u.User.Password()
		p.Authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
	}
	return p, nil
}
