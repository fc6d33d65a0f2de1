package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"fanout/webhook"
)

// forwardPatience is how long the local program may take to answer.
const forwardPatience = 5 * time.Second

// localProgram POSTs what tail sees to a local program, as its receiver would get it, but signed with a secret of its own: nobody's secret
// leaves fanout for that.
type localProgram struct {
	url    string
	secret string
	signer *webhook.Signer
	client *http.Client
}

func newLocalProgram(address string) (*localProgram, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, misusef("--forward %s is not a URL, such as http://localhost:3000/hooks", address)
	}
	secret := webhook.GenerateSecret()
	parsed, err := webhook.ParseSecret(secret)
	if err != nil {
		return nil, err
	}
	client := &http.Client{
		Timeout:       forwardPatience,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 1},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &localProgram{url: address, secret: secret, signer: webhook.NewSigner([]webhook.Secret{parsed}), client: client}, nil
}

// errCut says that an instance tells only the beginning of a body.
var errCut = errors.New("its body is larger than an instance shows")

// forward makes the request of an attempt once more, at the local program, and returns its status. What was not an attempt made none.
func (f *localProgram) forward(ctx context.Context, o *outcomeLine) (status int, err error) {
	body := []byte(o.Request)
	if !json.Valid(body) {
		return 0, errCut
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	now := time.Now().Unix()
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", userAgent())
	request.Header.Set("Webhook-Id", o.ID)
	request.Header.Set("Webhook-Timestamp", strconv.FormatInt(now, 10))
	request.Header.Set("Webhook-Signature", string(f.signer.AppendSignature(nil, o.ID, now, body)))
	answer, err := f.client.Do(request)
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // it repeats the method and the URL
	}
	if err != nil {
		return 0, err
	}
	_ = answer.Body.Close()
	return answer.StatusCode, nil
}

// text says what became of a request, in one line.
func (f *localProgram) text(o *outcomeLine, status int, err error) string {
	if err != nil {
		return fmt.Sprintf("%s was not forwarded to %s: %v", o.ID, f.url, err)
	}
	return fmt.Sprintf("%s forwarded to %s: %d", o.ID, f.url, status)
}
