package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/webhook"
)

// verifyFlags are what verify is told.
type verifyFlags struct {
	secrets, headers          []string
	secretFile, request       string
	id, timestamp, signatures string
	tolerance                 time.Duration
}

// verifyCommand verifies a signature.
type verifyCommand struct {
	*output
	*input
}

func (c *verifyCommand) command() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify [BODY-FILE]",
		Short: "Check the signature of a received webhook",
		Long: `verify checks a webhook as its receiver should (Standard Webhooks 1.0), and
shows the exact bytes that are signed. The body comes from a file or from
standard input, byte for byte; or --request names a file with the whole HTTP
request as it was received.

A batch has one signature. Where it is right, the ids of its deliveries are
listed: a receiver takes each once.

Exit status: 0 a signature matches and the timestamp is recent, 1 not so, 2 a
command line that is not understood.`,
		Example: `  fanout verify --secret-file secret.txt --id msg_2mbk7qbnrzvv2pfh3esgfzy4ea \
    --timestamp 1731000000 --signature v1,kYt… body.json
  fanout verify --secret-file secret.txt --request request.txt --tolerance 0`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return c.verify(&f, args) },
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.secrets, "secret", nil, "whsec_…, whsk_… or whpk_…, repeatable; others on this machine can see it")
	flags.StringVar(&f.secretFile, "secret-file", "", "`FILE` with one secret a line")
	flags.StringArrayVarP(&f.headers, "header", "H", nil, "`HEADER` as for curl, repeatable: 'webhook-id: msg_…'")
	flags.StringVar(&f.id, "id", "", "value of webhook-id")
	flags.StringVar(&f.timestamp, "timestamp", "", "value of webhook-timestamp")
	flags.StringVar(&f.signatures, "signature", "", "value of webhook-signature")
	flags.StringVar(&f.request, "request", "", "`FILE` with a whole HTTP request; - is standard input")
	flags.DurationVar(&f.tolerance, "tolerance", 5*time.Minute, "how far the timestamp may be from now; 0 accepts any")
	return cmd
}

func (c *verifyCommand) verify(f *verifyFlags, args []string) error {
	secrets, err := readSecrets(f)
	if err != nil {
		return err
	}
	header, body, err := c.received(f, args)
	if err != nil {
		return err
	}
	e, verifyErr := verifyHeaders(secrets, header, body, f.tolerance)
	var members []string
	if verifyErr == nil {
		members = webhook.BatchMembers(body)
	}
	if c.asJSON() {
		return errors.Join(c.json(explained(&e, members, verifyErr)), verifyErr)
	}
	if len(e.Signed) > 0 {
		fmt.Fprintf(c.stdout, "signed is    %s\n             webhook-id . webhook-timestamp . body, %s\n", terminal.Visible(string(e.Signed)), count(len(e.Signed), "byte"))
		when := ageText(e.Skew) + " ago"
		if e.Skew < 0 {
			when = "in " + ageText(-e.Skew)
		}
		fmt.Fprintf(c.stdout, "timestamp    %s\n", when)
	}
	for _, s := range e.Signatures {
		verdict := s.Problem
		if s.Problem == "" {
			verdict = fmt.Sprintf("matches secret %d", s.Secret+1)
		}
		fmt.Fprintf(c.stdout, "signature    %s\n             %s\n", terminal.Visible(s.Text), verdict)
	}
	for i, id := range members {
		title := ""
		if i == 0 {
			title = "batch of " + strconv.Itoa(len(members))
		}
		fmt.Fprintf(c.stdout, "%-12s %s\n", title, id)
	}
	if verifyErr == nil {
		fmt.Fprintln(c.stdout, "verified")
	}
	return verifyErr
}

// verifyHeaders verifies by the three headers of Standard Webhooks. Some receivers look for svix-* instead, or are shown
// requests of somebody else who sends these.
func verifyHeaders(secrets []webhook.Secret, header http.Header, body []byte, tolerance time.Duration) (webhook.Explanation, error) {
	prefix := "webhook-"
	if header.Get("webhook-id")+header.Get("webhook-signature") == "" && header.Get("svix-signature") != "" {
		prefix = "svix-"
	}
	e, err := webhook.Verify(secrets, header.Get(prefix+"id"), header.Get(prefix+"timestamp"), header.Get(prefix+"signature"), body, time.Now(), tolerance)
	switch {
	case prefix == "webhook-":
		return e, err
	case err == nil:
		return e, errors.New("verify: the signature is right, but the headers are svix-id, svix-timestamp and svix-signature; fanout sends webhook-id, webhook-timestamp and webhook-signature")
	}
	return e, fmt.Errorf("%w; and the headers are svix-*, where fanout sends webhook-*", err)
}

// explanation is the result for a program.
type explanation struct {
	Verified   bool            `json:"verified"`
	Problem    string          `json:"problem,omitempty"`
	Signed     string          `json:"signed,omitempty"`
	Skew       float64         `json:"skewSeconds"`
	Signatures []signatureJSON `json:"signatures"`
	Batch      []string        `json:"batch,omitempty"` // ids of its deliveries
}

type signatureJSON struct {
	Signature string `json:"signature"`
	Secret    int    `json:"secret,omitempty"` // 1 is the first; absent where none matches
	Problem   string `json:"problem,omitempty"`
}

func explained(e *webhook.Explanation, members []string, err error) explanation {
	out := explanation{Batch: members, Verified: err == nil, Signed: string(e.Signed), Skew: e.Skew.Seconds(), Signatures: []signatureJSON{}}
	if err != nil {
		out.Problem = err.Error()
	}
	for _, s := range e.Signatures {
		out.Signatures = append(out.Signatures, signatureJSON{s.Text, s.Secret + 1, s.Problem})
	}
	return out
}

// readSecrets are those of the flags.
func readSecrets(f *verifyFlags) ([]webhook.Secret, error) {
	texts := f.secrets
	if f.secretFile != "" {
		data, err := os.ReadFile(f.secretFile)
		if err != nil {
			return nil, fmt.Errorf("read the secrets: %w", err)
		}
		texts = append(texts, strings.Fields(string(data))...)
	}
	if len(texts) == 0 {
		return nil, misuse(hint(errors.New("verify with which secret?"), "add --secret-file FILE, or --secret"))
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
func (c *verifyCommand) received(f *verifyFlags, args []string) (http.Header, []byte, error) {
	header := http.Header{}
	file := "-"
	if len(args) > 0 {
		file = args[0]
	}
	if f.request != "" {
		if len(args) > 0 {
			return nil, nil, misusef("give either --request or a body file")
		}
		file = f.request
	}
	data, err := c.readFile(file)
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
			return nil, nil, misusef("-H %q: want NAME: VALUE", line)
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
