package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fanout/dispatcher/webhook"
)

// verifyFlags are what verify is told.
type verifyFlags struct {
	secrets, headers          []string
	secretFile, request       string
	id, timestamp, signatures string
	tolerance                 time.Duration
}

func (a *app) verifyCommand() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify [BODY-FILE]",
		Short: "Check a received webhook's signature, showing what is signed",
		Long: "verify checks a webhook as its receiver should (Standard Webhooks 1.0), and shows the exact bytes that the\n" +
			"signature is over, for whoever looks for the difference. The body comes from a file or standard input, byte for\n" +
			"byte; or --request names a file with the whole HTTP request as it was received.\n\n" +
			"Exit status: 0 where a signature matches and the timestamp is recent, else 1.",
		Example: "  fanout verify --secret-file secret.txt -H 'webhook-id: msg_…' -H 'webhook-timestamp: 1731000000' -H 'webhook-signature: v1,…' body.json\n" +
			"  fanout verify --secret-file secret.txt --request request.txt --tolerance 0",
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.verify(&f, args) },
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.secrets, "secret", nil, "whsec_…, whsk_… or whpk_…, repeatable; other users of this machine can see it")
	flags.StringVar(&f.secretFile, "secret-file", "", "file with one secret a line")
	flags.StringArrayVarP(&f.headers, "header", "H", nil, "header as curl takes it, repeatable: 'webhook-id: msg_…'")
	flags.StringVar(&f.id, "id", "", "value of webhook-id")
	flags.StringVar(&f.timestamp, "timestamp", "", "value of webhook-timestamp")
	flags.StringVar(&f.signatures, "signature", "", "value of webhook-signature")
	flags.StringVar(&f.request, "request", "", "file with a whole HTTP request, - for standard input")
	flags.DurationVar(&f.tolerance, "tolerance", 5*time.Minute, "how far the timestamp may be from now; 0 for any")
	return cmd
}

func (a *app) verify(f *verifyFlags, args []string) error {
	secrets, err := a.secrets(f)
	if err != nil {
		return err
	}
	header, body, err := a.received(f, args)
	if err != nil {
		return err
	}
	e, verifyErr := webhook.Verify(secrets, header.Get("webhook-id"), header.Get("webhook-timestamp"), header.Get("webhook-signature"),
		body, time.Now(), f.tolerance)
	if a.asJSON() {
		return errors.Join(a.json(explained(&e, verifyErr)), verifyErr)
	}
	if len(e.Signed) > 0 {
		fmt.Fprintf(a.stdout, "signed is    %q\n             webhook-id . webhook-timestamp . body, %s\n", e.Signed, count(len(e.Signed), "byte"))
		fmt.Fprintf(a.stdout, "timestamp    %s ago\n", e.Skew.Round(time.Second))
	}
	for _, s := range e.Signatures {
		verdict := s.Problem
		if s.Problem == "" {
			verdict = fmt.Sprintf("matches secret %d", s.Secret+1)
		}
		fmt.Fprintf(a.stdout, "signature    %s\n             %s\n", printable(s.Text), verdict)
	}
	if verifyErr == nil {
		fmt.Fprintln(a.stdout, "verified")
	}
	return verifyErr
}

// explanation is the result for a program.
type explanation struct {
	Verified   bool            `json:"verified"`
	Problem    string          `json:"problem,omitempty"`
	Signed     string          `json:"signed,omitempty"`
	Skew       float64         `json:"skewSeconds"`
	Signatures []signatureJSON `json:"signatures"`
}

type signatureJSON struct {
	Signature string `json:"signature"`
	Secret    int    `json:"secret,omitempty"` // 1 is the first; absent where none matches
	Problem   string `json:"problem,omitempty"`
}

func explained(e *webhook.Explanation, err error) explanation {
	out := explanation{Verified: err == nil, Signed: string(e.Signed), Skew: e.Skew.Seconds(), Signatures: []signatureJSON{}}
	if err != nil {
		out.Problem = err.Error()
	}
	for _, s := range e.Signatures {
		out.Signatures = append(out.Signatures, signatureJSON{s.Text, s.Secret + 1, s.Problem})
	}
	return out
}

func (a *app) secrets(f *verifyFlags) ([]webhook.Secret, error) {
	texts := f.secrets
	if f.secretFile != "" {
		data, err := os.ReadFile(f.secretFile)
		if err != nil {
			return nil, fmt.Errorf("read the secrets: %w", err)
		}
		texts = append(texts, strings.Fields(string(data))...)
	}
	if len(texts) == 0 {
		return nil, hint(errors.New("no secret to verify with"), "give --secret-file or --secret")
	}
	secrets := make([]webhook.Secret, len(texts))
	for i, text := range texts {
		secret, err := webhook.ParseSecret(text)
		if err != nil {
			return nil, fmt.Errorf("secret %d: %w", i+1, err)
		}
		secrets[i] = secret
	}
	return secrets, nil
}

// received is the webhook to verify: its headers and body.
func (a *app) received(f *verifyFlags, args []string) (http.Header, []byte, error) {
	header := http.Header{}
	file := "-"
	if len(args) > 0 {
		file = args[0]
	}
	if f.request != "" {
		if len(args) > 0 {
			return nil, nil, errors.New("give either --request or a body file")
		}
		file = f.request
	}
	data, err := a.readFile(file)
	if err != nil {
		return nil, nil, err
	}
	body := data
	if f.request != "" {
		if header, body, err = parseRequest(data); err != nil {
			return nil, nil, err
		}
	}
	for _, line := range f.headers {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, nil, fmt.Errorf("header %q: want NAME: VALUE", line)
		}
		header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	for name, value := range map[string]string{"webhook-id": f.id, "webhook-timestamp": f.timestamp, "webhook-signature": f.signatures} {
		if value != "" {
			header.Set(name, value)
		}
	}
	return header, body, nil
}

// parseRequest takes a raw HTTP request apart. Without a length the body is all that follows the headers, since a
// request that was pasted from a log has often lost it.
func parseRequest(data []byte) (http.Header, []byte, error) {
	reader := bufio.NewReader(bytes.NewReader(data))
	request, err := http.ReadRequest(reader)
	if err != nil {
		return nil, nil, hint(fmt.Errorf("read the request: %w", err), "it begins with a line like POST /hook HTTP/1.1, then headers, an empty line, the body")
	}
	defer request.Body.Close()
	source := io.Reader(request.Body)
	if request.ContentLength <= 0 && len(request.TransferEncoding) == 0 {
		source = reader
	}
	body, err := io.ReadAll(source)
	if err != nil {
		return nil, nil, fmt.Errorf("read the request's body: %w", err)
	}
	return request.Header, body, nil
}

// readFile reads a whole file; - is standard input.
func (a *app) readFile(name string) ([]byte, error) {
	if name == "-" {
		data, err := io.ReadAll(a.stdin)
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return data, nil
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return data, nil
}
