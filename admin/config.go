package admin

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"unicode/utf8"
)

// Config is the section `admin` of the configuration.
type Config struct {
	Listen    string       `mapstructure:"listen"`     // host:port; default 127.0.0.1:8080
	Token     string       `mapstructure:"token"`      // asked of every request but /healthz and /readyz; may be empty on a loopback address only
	Advertise string       `mapstructure:"advertise"`  // where the other instances find it, as in 10.0.0.7:8080 or https://10.0.0.7; empty: not announced
	PublicURL string       `mapstructure:"public_url"` // where operators' browsers find it, as in https://fanout.example.com; empty: as they asked
	Portal    PortalConfig `mapstructure:"portal"`

	TrustedProxies []string `mapstructure:"trusted_proxies"` // addresses and networks whose user_header is believed; default none
	UserHeader     string   `mapstructure:"user_header"`     // the header in which they say who signed in; default none
}

// Proxies are the trusted proxies.
func (c *Config) Proxies() ([]netip.Prefix, error) {
	var list []netip.Prefix
	for i, text := range c.TrustedProxies {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			addr, addrErr := netip.ParseAddr(text)
			if addrErr != nil {
				return nil, fmt.Errorf("admin.trusted_proxies[%d]: %q is neither an address nor a network", i, text)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		list = append(list, prefix.Masked())
	}
	return list, nil
}

// PortalConfig is the section `admin.portal`: the portal of an account's own people.
type PortalConfig struct {
	Listen    string `mapstructure:"listen"`     // host:port of a listener of its own; empty: admin.listen
	PublicURL string `mapstructure:"public_url"` // what portal links begin with; empty: admin.public_url, else as the operator asked
	Name      string `mapstructure:"name"`       // of the platform, in place of fanout's; empty: fanout's
	Logo      string `mapstructure:"logo"`       // a file with its logo, SVG or PNG; empty: fanout's
	Color     string `mapstructure:"color"`      // of links and buttons, as #rrggbb; empty: fanout's
	// FrameAncestors are the origins whose pages may show the portal in a frame, as in https://app.example.com; empty: none.
	FrameAncestors []string `mapstructure:"frame_ancestors"`
}

// Validate says all that is wrong with it, each problem with its key. Addresses are taken as they are: listening tells.
func (c *Config) Validate() error {
	var problems []error
	bad := func(key, format string, args ...any) {
		problems = append(problems, fmt.Errorf("admin."+key+": "+format, args...))
	}
	open := ""
	for _, one := range []struct{ key, address string }{{"listen", c.Listen}, {"portal.listen", c.Portal.Listen}} {
		if _, _, err := net.SplitHostPort(one.address); err != nil || Loopback(one.address) {
			continue // others cannot reach a listener that has no address
		}
		if c.Token == "" {
			bad(one.key, "%q: others can reach this address, so it needs a token: set admin.token or FANOUT_ADMIN_TOKEN, or listen on 127.0.0.1", one.address)
		}
		open = cmp.Or(open, "admin."+one.key)
	}
	for _, one := range []struct{ key, address string }{{"public_url", c.PublicURL}, {"portal.public_url", c.Portal.PublicURL}} {
		if one.address == "" {
			continue
		}
		u, err := url.Parse(one.address)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			bad(one.key, "want http:// or https:// and a host, nothing behind it, as in https://fanout.example.com")
		}
		open = cmp.Or(open, "admin."+one.key)
	}
	if c.Advertise != "" {
		problems = append(problems, c.advertiseProblems()...)
		open = cmp.Or(open, "admin.advertise")
	}
	for i, origin := range c.Portal.FrameAncestors {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(u.Host, ";,*' ") {
			bad(fmt.Sprintf("portal.frame_ancestors[%d]", i), "want an origin, as in https://app.example.com")
		}
	}
	problems = append(problems, c.Portal.problems()...)
	if c.Token != "" && open != "" && utf8.RuneCountInString(c.Token) < MinToken {
		bad("token", "has fewer than %d characters, and with %s others can try tokens: `fanout token` makes a long one", MinToken, open)
	}
	if c.Portal.Listen != "" && c.Token == "" && Loopback(c.Portal.Listen) {
		bad("portal.listen", "there is no portal without admin.token: portal links are signed with a key that is derived from it")
	}
	if _, err := c.Proxies(); err != nil {
		problems = append(problems, err)
	}
	if c.UserHeader != "" && len(c.TrustedProxies) == 0 {
		bad("user_header", "nobody would be believed: set admin.trusted_proxies to the proxies that set it")
	}
	return errors.Join(problems...)
}

// AdvertiseURL is where the other instances find this one; empty where it is not announced.
func (c *Config) AdvertiseURL() string {
	if c.Advertise == "" || strings.Contains(c.Advertise, "://") {
		return strings.TrimRight(c.Advertise, "/")
	}
	host, port, err := net.SplitHostPort(c.Advertise)
	if err != nil {
		return "http://" + c.Advertise
	}
	return "http://" + net.JoinHostPort(host, port) // brackets around an IPv4 address are taken off
}

func (c *Config) advertiseProblems() (problems []error) {
	u, err := url.Parse(c.AdvertiseURL())
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Scheme == "http" && u.Port() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return []error{errors.New("admin.advertise: want host:port, or http:// or https:// and those, as in 10.0.0.7:8080")}
	}
	if c.Token == "" {
		problems = append(problems, errors.New("admin.advertise: others believe it only with admin.token, from which its MAC is keyed"))
	}
	if Loopback(c.Listen) && !Loopback(net.JoinHostPort(u.Hostname(), "0")) {
		problems = append(problems, fmt.Errorf("admin.advertise: nobody reaches %s, since admin.listen is %s", c.Advertise, c.Listen))
	}
	return problems
}

// Loopback says whether only this machine can reach the address host:port. A host name other than localhost counts
// as reachable by others: what it resolves to may change.
func Loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
