package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"fanout/subscriptions"
)

// problem is an error answer (RFC 9457). Its texts are for whoever sent the request: they quote no secret.
type problem struct {
	Type   string     `json:"type"`
	Title  string     `json:"title"`
	Status int        `json:"status"`
	Detail string     `json:"detail,omitempty"`
	Errors []badField `json:"errors,omitempty"`
}

// badField is one thing that is wrong with a request.
type badField struct {
	Field  string `json:"field"` // as the request names it; empty: the whole body
	Detail string `json:"detail"`
}

// Error makes a problem an error: handlers return it.
func (p *problem) Error() string {
	text := p.Detail
	for _, bad := range p.Errors {
		if text != "" {
			text += "; "
		}
		text += bad.Field + ": " + bad.Detail
	}
	return text
}

func problemf(status int, format string, args ...any) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, args...)}
}

// invalid is 422: every bad field is named.
func invalid(fields ...badField) *problem {
	p := problemf(http.StatusUnprocessableEntity, "%s", "the request is not valid")
	p.Errors = fields
	return p
}

// asProblem translates an error for whoever sent the request. Every other error means that Redis or Kafka does not answer;
// such errors name no address and no credential.
func asProblem(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if bad, ok := errors.AsType[*subscriptions.ValidationError](err); ok {
		return invalid(badFields(bad.Problems)...)
	}
	if conflict, ok := errors.AsType[*subscriptions.ConflictError](err); ok {
		return problemf(http.StatusConflict, "%s", conflict.Text)
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return problemf(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", maxBody)
	}
	return problemf(http.StatusServiceUnavailable, "%v", err)
}

func badFields(list []subscriptions.FieldProblem) []badField {
	fields := make([]badField, len(list))
	for i, f := range list {
		fields[i] = badField{f.Field, f.Problem}
	}
	return fields
}

func (p *problem) write(w http.ResponseWriter) {
	writeJSON(w, p.Status, "application/problem+json", p)
}

func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	body, err := json.Marshal(v)
	if err != nil { // answers are plain data, which can be encoded
		status, body = http.StatusInternalServerError, []byte(`{"type":"about:blank","title":"Internal Server Error","status":500}`)
		contentType = "application/problem+json"
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
