package admin

import (
	"net"
	"net/netip"
)

// Config is the section `admin` of the configuration.
type Config struct {
	Listen string `mapstructure:"listen"` // host:port; default 127.0.0.1:8080
	Token  string `mapstructure:"token"`  // asked of every request but /healthz and /readyz; may be empty on a loopback address only
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
