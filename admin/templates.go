package admin

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"

	"go.uber.org/zap"

	"fanout/operate"
)

// scope says who looks at a page. In the portal that is one account, known from the link's token alone.
type scope struct {
	Portal   bool
	ReadOnly bool   // the portal link is for looking only
	Account  string // of the portal
	Link     string // the portal link's id
	Base     string // the beginning of every path: empty, or the portal link's
	SignOut  bool   // there is a session to end
	Entered  bool   // they may see how things are
}

// view is what a template is given, for the whole page and for its live part alike.
type view struct {
	scope
	Title string
	Nav   string // which entry of the navigation is current; empty: the page has no navigation
	Hub   *hub   // the webhook that the page is about; nil: there is none
	Live  string // where the live part is renewed from; empty where there is none
	Body  any

	Findings []finding    // what is wrong, the worst first
	Status   int          // HTTP status of the answer; 0: 200
	Cookie   *http.Cookie // set with the answer, or with the redirection; nil: none
}

// path is the address of a page. Values come in pairs, name and value; an account is left out in the portal, whose link
// says which it is, and so is what is empty.
func (s scope) path(page string, values ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(values); i += 2 {
		if name, value := values[i], values[i+1]; value != "" && (name != "account" || !s.Portal) {
			q.Set(name, value)
		}
	}
	if len(q) == 0 {
		return s.Base + page
	}
	return s.Base + page + "?" + q.Encode()
}

// Webhook is the address of a webhook's page.
func (s scope) Webhook(account, id string) string {
	return s.path(endpointPath, "account", account, "id", id)
}

// Settings is the address of a webhook's settings.
func (s scope) Settings(account, id string) string {
	return s.path("/settings/events-webhook", "account", account, "id", id)
}

// DeadLetters is the address of a webhook's dead letters.
func (s scope) DeadLetters(account, id string) string {
	return s.Letters(letterForm{Account: account, Subscription: id})
}

// templates are the pages by name. Each has a "main"; a page that changes by itself has the changing part in "live".
type templates struct {
	log     *zap.Logger
	verdict func(scope) []finding // set once there is something to judge
	brand   brand                 // of the portal
	files   files
	pages   map[string]*template.Template
}

func newTemplates(log *zap.Logger, portal *PortalConfig) (*templates, error) {
	t := &templates{log: log, pages: map[string]*template.Template{}}
	var err error
	if t.brand, err = newBrand(portal); err != nil {
		return nil, err
	}
	if t.files, err = allFiles(); err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	layout, err := template.New("").Funcs(functions()).Funcs(template.FuncMap{"brand": func() *brand { return &t.brand }, "asset": t.files.address}).ParseFS(web, "web/layout.html")
	if err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	for _, name := range []string{"sign-in", "error", "overview", "endpoints", "endpoint", "verdict", "deliveries", "delivery", "resend", "explain", "dead-letters", "dead-letter", "plan", "replay", "backfill-plan", "backfill", "settings"} {
		page, err := layout.Clone()
		if err == nil {
			t.pages[name], err = page.ParseFS(web, "web/"+name+".html")
		}
		if err != nil {
			return nil, fmt.Errorf("dashboard: %w", err)
		}
	}
	return t, nil
}

// Letters is the address of the dead letters that a filter finds.
func (s scope) Letters(f letterForm) string {
	return s.path("/dead-letters", "account", f.Account, "subscription", f.Subscription, "event", f.Event, "reason", f.Reason, "status", f.Status, "state", f.State, "q", f.Text, "from", f.From, "to", f.To)
}

// Group is the address of a group of dead letters, within the time that a filter asks for.
func (s scope) Group(g operate.LetterGroup, f letterForm) string {
	f.Account, f.Subscription, f.Reason = g.Account, g.Subscription, g.Reason
	return s.Letters(f)
}

// DeadLetter is the address of one dead letter.
func (s scope) DeadLetter(position string) string {
	return s.path("/dead-letters/show", "at", position)
}

// Replay is the address of a replay.
func (s scope) Replay(name string) string { return s.Base + replayPath(name) }

// live says whether the page changes by itself.
func (t *templates) live(name string) bool {
	page := t.pages[name]
	return page != nil && page.Lookup("live") != nil
}

// execute writes one part of a page, "layout" being all of it. It writes nothing unless the part is whole.
func (t *templates) execute(name, part string, v view) ([]byte, error) {
	if t.verdict != nil && v.Entered && part != "live" {
		v.Findings = t.verdict(v.scope)
	}
	var out bytes.Buffer
	if err := t.pages[name].ExecuteTemplate(&out, part, v); err != nil {
		return nil, fmt.Errorf("page %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// render answers with a page.
func (t *templates) render(w http.ResponseWriter, status int, name string, v view) {
	page, err := t.execute(name, "layout", v)
	if err != nil {
		t.log.Error("page not rendered", zap.Error(err))
		t.fail(w, v.scope, errNotRendered)
		return
	}
	writePage(w, status, page)
}

var errNotRendered = problemf(http.StatusInternalServerError, "this page could not be shown: that is a bug, and the log has the details")

func writePage(w http.ResponseWriter, status int, page []byte) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(page) // a client that went away is not our error
}

// errorBody is an error for people.
type errorBody struct {
	Status        int
	Title, Detail string
	Errors        []badField
}

// fail answers with an error as a page. A customer is told no internal error.
func (t *templates) fail(w http.ResponseWriter, s scope, err error) {
	if errors.Is(err, errNoSubscription) {
		err = errNoWebhook
	}
	bad := asProblem(err)
	body := errorBody{Status: bad.Status, Title: errorTitle(bad.Status), Detail: bad.Detail, Errors: bad.Errors}
	if _, known := errors.AsType[*problem](err); !known && bad.Status == http.StatusServiceUnavailable && s.Portal {
		body.Detail = ""
	}
	v := view{scope: s, Title: body.Title, Nav: "-", Body: body}
	if s.Portal && s.Account == "" {
		v.Nav = "" // the link opens nothing
	}
	page, err := t.execute("error", "layout", v)
	if err != nil {
		t.log.Error("page not rendered", zap.Error(err))
		http.Error(w, body.Title, bad.Status)
		return
	}
	writePage(w, bad.Status, page)
}

// errorTitle is what a page calls a status.
func errorTitle(status int) string {
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return "Something in the request is not right"
	case http.StatusUnauthorized:
		return "You are signed out"
	case http.StatusForbidden:
		return "Not allowed"
	case http.StatusNotFound:
		return "Not found"
	case http.StatusConflict:
		return "Not possible now"
	case http.StatusRequestEntityTooLarge:
		return "Too large"
	case http.StatusMisdirectedRequest:
		return "Wrong address"
	case http.StatusServiceUnavailable:
		return "Not available at the moment"
	}
	return http.StatusText(status)
}

// wantsPage says whether a person's browser asks, and for something other than the API.
func wantsPage(r *http.Request) bool {
	return !strings.HasPrefix(r.URL.Path, "/api/") && strings.Contains(r.Header.Get("Accept"), "text/html")
}
