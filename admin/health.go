package admin

import (
	"encoding/json"
	"net/http"
)

// Check is one condition of readiness.
type Check struct {
	Name string
	// Ready says whether the condition holds, and a detail for people: why not, or what is degraded. It is called for
	// each request of /readyz and must answer at once. The detail names no secret.
	Ready func() (ok bool, detail string)
	// Alive, if not nil, says why the process cannot recover by itself: /healthz is then 503, so that the process is
	// restarted. Waiting for Kafka, Redis or a receiver is not such a reason.
	Alive func() error
}

// readiness is the body of /readyz.
type readiness struct {
	Ready  bool          `json:"ready"`
	Checks []checkResult `json:"checks"`
}

type checkResult struct {
	Name   string `json:"name"`
	Ready  bool   `json:"ready"`
	Detail string `json:"detail,omitempty"`
}

// healthz says that the process answers and makes progress. What it depends on is reported by readyz, because a restart of
// this process would not repair that.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for _, check := range s.checks {
		if check.Alive == nil {
			continue
		}
		if err := check.Alive(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(check.Name + ": " + err.Error() + "\n"))
			return
		}
	}
	_, _ = w.Write([]byte("ok\n"))
}

// readyz is 200 once every check holds, else 503 with the reasons.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	body := s.readiness()
	w.Header().Set("Content-Type", "application/json")
	if !body.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(body) //nolint:errchkjson // a client that went away is not an error of ours
}

// Ready says what /readyz would: whether every check holds. It is safe for concurrent use.
func (s *Server) Ready() bool { return s.readiness().Ready }

// readiness asks every check.
func (s *Server) readiness() readiness {
	body := readiness{Ready: true, Checks: make([]checkResult, len(s.checks))}
	for i, check := range s.checks {
		ok, detail := check.Ready()
		body.Checks[i] = checkResult{Name: check.Name, Ready: ok, Detail: detail}
		body.Ready = body.Ready && ok
	}
	return body
}
