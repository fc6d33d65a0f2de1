package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"fanout/admin"
	"fanout/cmd/internal/terminal"
)

// remote is a running instance, asked on its admin address.
type remote struct {
	base   string      // such as http://127.0.0.1:8080
	token  string      // admin.token; empty where it has none, or is not to be told
	keys   *admin.Keys // sign in place of the token, where the address was announced; nil: the token is sent
	portal string      // /portal/ID, where it is asked through a portal link, whose token token is
}

// remotePatience is how long a remote may take to answer.
const remotePatience = 5 * time.Second

// remoteAnswer bounds what is taken of an answer, in bytes: the lanes of some 100 000 subscriptions.
const remoteAnswer = 32 << 20

// adminURL is where a listener on that address can be asked from this machine.
func adminURL(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "http://" + listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// remoteClient asks an instance. No proxy and no redirect: the token is for that address alone.
func remoteClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// get makes a request whose answer may take as long as ctx lets it. The caller closes the answer's body.
func (r remote) get(ctx context.Context, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+path, http.NoBody)
	if err != nil {
		return nil, hint(fmt.Errorf("--admin %s is not a URL", r.base), "write it as http://HOST:PORT")
	}
	switch {
	case r.keys != nil:
		r.keys.Sign(request, time.Now())
	case r.token != "":
		request.Header.Set("Authorization", "Bearer "+r.token)
	}
	answer, err := remoteClient().Do(request)
	if err != nil {
		return nil, r.unreachable(err)
	}
	return answer, nil
}

// ask makes a request and reads the answer, whatever its status.
func (r remote) ask(ctx context.Context, path string) (status int, header http.Header, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, remotePatience)
	defer cancel()
	answer, err := r.get(ctx, path)
	if err != nil {
		return 0, nil, nil, err
	}
	defer answer.Body.Close()
	if body, err = io.ReadAll(io.LimitReader(answer.Body, remoteAnswer+1)); err != nil {
		return 0, nil, nil, r.unreachable(err)
	}
	if len(body) > remoteAnswer {
		return 0, nil, nil, fmt.Errorf("%s answers with more than %d MiB", r.base, remoteAnswer>>20)
	}
	return answer.StatusCode, answer.Header, body, nil
}

// read asks for a JSON object. Any status but 200 is an error.
func (r remote) read(ctx context.Context, path string, into any) error {
	status, header, body, err := r.ask(ctx, path)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return r.refused(status, header, body)
	}
	if json.Unmarshal(body, into) != nil {
		return r.stranger()
	}
	return nil
}

// unreachable says in words why there was no answer.
func (r remote) unreachable(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // it repeats the method and the URL
	}
	why := err.Error()
	timeout, _ := errors.AsType[net.Error](err)
	unknown, _ := errors.AsType[*net.DNSError](err)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		why = "connection refused"
	case errors.Is(err, context.DeadlineExceeded), timeout != nil && timeout.Timeout():
		why = "no answer in time"
	case unknown != nil && unknown.IsNotFound:
		why = "no such host"
	}
	return hint(fmt.Errorf("%s: %s", r.base, why), "is an instance running there? --admin URL or admin.listen says where to ask")
}

// refused says what an answer other than 200 means.
func (r remote) refused(status int, header http.Header, body []byte) error {
	problem, ok := problemOf(header, body)
	switch {
	case status == http.StatusUnauthorized && r.portal != "":
		return errNoLink(r.base)
	case status == http.StatusUnauthorized:
		return hint(fmt.Errorf("%s refuses the token (401)", r.base), "set admin.token, or FANOUT_ADMIN_TOKEN, to that of the instance")
	case status == http.StatusMisdirectedRequest:
		return hint(fmt.Errorf("%s does not go by that name (421)", r.base), "name it as admin.listen or admin.public_url does")
	case ok:
		return fmt.Errorf("%s: %s (%d)", r.base, problem, status)
	case status == http.StatusNotFound || status < http.StatusBadRequest:
		return r.stranger()
	}
	return fmt.Errorf("%s answers %d %s", r.base, status, http.StatusText(status))
}

// stranger is the error of an answer that no instance would give.
func (r remote) stranger() error {
	return hint(fmt.Errorf("%s: the server there is not a fanout instance", r.base), "--admin URL or admin.listen says where to ask")
}

// problemOf reads an error answer (RFC 9457): its detail, then each bad field.
func problemOf(header http.Header, body []byte) (string, bool) {
	kind, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	var problem struct {
		Title  string `json:"title"`
		Detail string `json:"detail"`
		Errors []struct {
			Field  string `json:"field"`
			Detail string `json:"detail"`
		} `json:"errors"`
	}
	if kind != "application/problem+json" || json.Unmarshal(body, &problem) != nil {
		return "", false
	}
	var parts []string
	if problem.Detail != "" {
		parts = append(parts, problem.Detail)
	}
	for _, bad := range problem.Errors {
		parts = append(parts, strings.TrimPrefix(bad.Field+": "+bad.Detail, ": "))
	}
	if len(parts) == 0 {
		parts = append(parts, problem.Title)
	}
	return terminal.Visible(strings.Join(parts, "; ")), true
}

// askAll asks several instances at once; f is called for each from its own goroutine.
func askAll(remotes []remote, f func(i int, r remote)) {
	var asking sync.WaitGroup
	for i, r := range remotes {
		asking.Go(func() { f(i, r) })
	}
	asking.Wait()
}
