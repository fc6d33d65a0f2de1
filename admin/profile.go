package admin

import (
	"net/http"
	"net/http/pprof" // it registers with http.DefaultServeMux too, which nothing here serves
)

// profiles adds what `go tool pprof` and `go tool trace` ask for, behind the token. There is no cmdline: flags and
// paths of the process are nobody's business, and the tools do without.
func (s *Server) profiles() {
	for _, route := range []struct {
		pattern string
		f       http.HandlerFunc
	}{
		{"GET /debug/pprof/", pprof.Index}, // and below it heap, goroutine, allocs, block, mutex, threadcreate
		{"GET /debug/pprof/profile", pprof.Profile},
		{"GET /debug/pprof/trace", pprof.Trace},
		{"GET /debug/pprof/symbol", pprof.Symbol},
		{"POST /debug/pprof/symbol", pprof.Symbol},
	} {
		s.Handle(route.pattern, route.f)
	}
}
