package lab

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// freePort finds a port on which nothing listens. It is below the range from which the kernel serves outgoing
// connections, so that nobody takes it while a process that is to have it again is down.
func freePort() (int, error) {
	const low, high, tries = 12000, 32000, 200
	for range tries {
		port := low + rand.IntN(high-low)
		ln, err := net.Listen("tcp", loopback(port))
		if err != nil {
			continue
		}
		return port, ln.Close()
	}
	return 0, errors.New("no free port between 12000 and 32000")
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
