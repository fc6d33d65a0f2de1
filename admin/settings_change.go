package admin

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"fanout/event"
	"fanout/subscriptions"
)

// changeSettings does what a button asks for. Then it sends the browser to the webhook's own address, which a reload may ask
// for again, with a notice of what was done. A form that is not right comes back as it was filled in.
func (p *pages) changeSettings(r *http.Request, s scope) (view, error) {
	account, id, action := own(s, r), strings.TrimSpace(r.PostForm.Get("id")), r.PostForm.Get("action")
	if bad := subscriptions.CheckIdentity(account, "x"); bad != nil {
		return view{}, bad
	}
	if asked, err := p.asks(r, s, id, action); asked != nil || err != nil {
		return settingsView(asked), err
	}
	var n notice
	err := p.afford(s, action)
	if err != nil {
		return view{}, err
	}
	switch action {
	case "save":
		return p.save(r, s, account, id)
	case "delete":
		n.Said = id + " is deleted. Nothing is sent to it any more."
		n.Undo, err = p.deleteUndoably(r.Context(), p.callerOf(r, s), account, id)
		id = ""
	case "undo":
		id, err = p.undo(r.Context(), p.callerOf(r, s), account, r.PostForm.Get("undo"))
		n.Said = id + " is back."
	case "test":
		n.Tested, err = p.tryTest(r, account, id)
		if s.Portal && n.Tested != nil {
			n.Tested.forCustomer()
		}
	case "rotate":
		err = p.rotateFor(r, s, account, id, &n)
	case "retire":
		err = p.retire(r.Context(), p.callerOf(r, s), account, id, r.PostForm.Get("secret"))
		n.Said = "Deliveries are no longer signed with that secret."
	case "link", "revoke":
		if s.Portal {
			return view{}, problemf(http.StatusForbidden, "portal links can be created by the operator only")
		}
		err = p.changeLinks(r, account, action, &n)
		return p.done(r, s, account, r.URL.Query().Get("id"), r.URL.Query().Has("new"), n, err)
	default:
		err = problemf(http.StatusUnprocessableEntity, "action %q is not known", action)
	}
	return p.done(r, s, account, id, false, n, err)
}

// afford takes what an action costs from a customer's budget.
func (p *pages) afford(s scope, action string) error {
	if action == "test" {
		return p.budgets.test(s)
	}
	return p.budgets.save(s)
}

// done sends the browser to a webhook's page with a notice, unless something went wrong.
func (p *pages) done(r *http.Request, s scope, account, id string, fresh bool, n notice, err error) (view, error) {
	if err != nil {
		return view{}, err
	}
	values := []string{"account", account, "id", id}
	if fresh {
		values = append(values, "new", "1")
	}
	to := scope{Portal: s.Portal}.path(settingsPath, values...)
	return view{Cookie: p.notices.give(r, noticePlace{scope: s, account: account, id: id}, n)}, moved(to)
}

// tryTest sends a test event. What keeps it from being sent now is a result too.
func (p *pages) tryTest(r *http.Request, account, id string) (*tested, error) {
	name := r.PostForm.Get("sample")
	result, err := p.test(r.Context(), account, id, name)
	if err == nil {
		return &result, nil
	}
	if bad := asProblem(err); bad.Status == http.StatusTooManyRequests || bad.Status == http.StatusServiceUnavailable {
		return &tested{Event: name, Reason: bad.Detail}, nil
	}
	return nil, err
}

// rotateFor makes a new secret; the form says for how many hours the former one signs on.
func (p *pages) rotateFor(r *http.Request, s scope, account, id string, n *notice) error {
	lasts := subscriptions.RotationLasts
	if text := r.PostForm.Get("hours"); text != "" {
		hours, err := strconv.Atoi(text)
		if lasts = time.Duration(hours) * time.Hour; err != nil || hours < 0 || lasts > subscriptions.RotationLastsMax {
			return problemf(http.StatusUnprocessableEntity, "the time must be a number of hours from 0 to %d", subscriptions.RotationLastsMax/time.Hour)
		}
	}
	result, err := p.rotate(r.Context(), p.callerOf(r, s), account, id, lasts)
	n.Secret, n.PublicKey = result.Secret, result.PublicKey
	n.Said = "A new secret signs from now on."
	switch {
	case result.Secrets > 1:
		n.Said += " The other secrets sign as well, each for as long as the list below says."
	case lasts == 0:
		n.Said += " The former one no longer does."
	}
	return err
}

func (p *pages) changeLinks(r *http.Request, account, action string, n *notice) error {
	if kind := r.PostForm.Get("kind"); kind != "" && !slices.Contains(linkKinds(), kind) {
		return problemf(http.StatusUnprocessableEntity, "a link is %s", strings.Join(linkKinds(), " or "))
	}
	if action == "revoke" {
		n.Said = "The link no longer works."
		return p.revokeLink(r, account, r.PostForm.Get("link"))
	}
	link, err := p.newLink(r, account, cmp.Or(r.PostForm.Get("kind"), linkFull), portalLasts)
	n.Link = &link
	return err
}

// save stores the form. Where it is not valid, or would undo what somebody else has done, the tab comes back as it was
// filled in, with what is wrong.
func (p *pages) save(r *http.Request, s scope, account, id string) (view, error) {
	f := &settingsForm{catalogue: p.catalogue(), values: r.PostForm, fresh: r.Form.Has("new")}
	if f.fresh && id == "" {
		f.wrong("id", "give it a name")
	} else if bad := subscriptions.CheckIdentity(account, id); bad != nil {
		f.bad = append(f.bad, asProblem(bad).Errors...)
	}
	named := len(f.bad) == 0
	f.check()
	if !named {
		return p.again(r, s, id, f, p.allWrong(f, account, "x", nil, nil))
	}
	saved, err := p.put(r.Context(), p.callerOf(r, s), account, id, func(stored []byte) ([]byte, error) {
		refused := p.overwrites(f, id, stored)
		if refused != nil && len(refused.Errors) == 0 {
			return nil, refused
		}
		if refused != nil || len(f.bad) > 0 {
			return nil, p.allWrong(f, account, id, stored, refused)
		}
		return f.json(stored)
	})
	if _, said := errors.AsType[*problem](err); err != nil && !said && asProblem(err).Status == http.StatusServiceUnavailable {
		return p.unsaved(s, account, id, f), nil
	}
	if bad := asProblem(err); err != nil && (bad.Status == http.StatusUnprocessableEntity || bad.Status == http.StatusConflict) {
		return p.again(r, s, id, f, bad)
	}
	n := notice{Said: "Saved. It is in force here now, and everywhere within a second."}
	if len(saved.made) > 0 {
		n.Secret = saved.made[0]
	}
	return p.done(r, s, account, id, false, n, err)
}

// allWrong is everything that is wrong with a form: what cannot be read of it, what refuses it, and what is wrong with the rest.
func (p *pages) allWrong(f *settingsForm, account, id string, stored []byte, refused *problem) *problem {
	all := slices.Clone(f.bad)
	if refused != nil {
		all = append(all, refused.Errors...)
	}
	now := time.Now()
	next, err := f.json(stored)
	if err == nil {
		next, _, err = withGenerated(next)
	}
	if err == nil {
		next, err = subscriptions.Merge(stored, next, now)
	}
	if err == nil {
		_, err = p.judge(account, id, stored, next, now)
	}
	if err != nil {
		for _, one := range asProblem(err).Errors {
			if !slices.ContainsFunc(f.bad, func(known badField) bool { return fieldOf(known.Field) == fieldOf(one.Field) }) {
				all = append(all, one)
			}
		}
	}
	return invalid(all...)
}

// unsaved is the tab with what was typed while Redis does not answer.
func (p *pages) unsaved(s scope, account, id string, f *settingsForm) view {
	body := &settingsBody{Account: account, Bad: map[string]string{}, Code: p.code, New: f.fresh}
	body.ID = id
	body.Action = body.address(s)
	bad := problemf(http.StatusServiceUnavailable, "Redis does not answer at the moment. What you typed is still here: try again")
	if s.Portal {
		bad.Detail = "that is not possible at the moment. What you typed is still here: try again"
	}
	body.fill(p.catalogue(), f, bad)
	body.Seen = f.values.Get("seen")
	v := settingsView(body)
	v.Status = http.StatusServiceUnavailable
	return v
}

// overwrites refuses to save over what the sender of the form has not seen.
func (p *pages) overwrites(f *settingsForm, id string, stored []byte) *problem {
	seen := f.values.Get("seen")
	switch {
	case f.fresh && stored != nil:
		f.taken = id
		bad := problemf(http.StatusConflict, "there is a webhook of this name already")
		bad.Errors = []badField{{"id", "there is a webhook of this name already: choose another name, or open that one"}}
		return bad
	case f.fresh || seen == "": // nothing has been seen that could have changed
	case stored == nil:
		f.fresh = true
		return problemf(http.StatusConflict, "somebody has deleted this webhook since you opened it: save again to create it once more, with a new secret")
	case seen != p.mark(stored):
		return problemf(http.StatusConflict, "somebody has changed this webhook since you opened it: open this page in another tab to see what is stored now, or save again to replace it")
	}
	return nil
}

// again is the tab as the form was filled in, with what is wrong.
func (p *pages) again(r *http.Request, s scope, id string, f *settingsForm, bad *problem) (view, error) {
	if f.fresh {
		id = ""
	}
	body, err := p.settingsOf(r, s, id, f.fresh)
	if err != nil {
		return view{}, err
	}
	body.fill(p.catalogue(), f, bad)
	return settingsView(body), nil
}

// fill shows the form as it was sent, and what is wrong with it.
func (b *settingsBody) fill(c *event.Catalogue, f *settingsForm, bad *problem) {
	b.Typed = true
	b.Problem, b.Taken = &problem{Status: bad.Status, Detail: "Nothing was saved. Please correct this:"}, f.taken
	b.Problem.Errors = inOrder(bad.Errors)
	if len(bad.Errors) == 0 {
		b.Problem.Detail = "Nothing was saved: " + bad.Detail + "."
	}
	for i, one := range b.Problem.Errors {
		if one == (badField{"events", "is empty"}) {
			one.Detail = "tick at least one"
			b.Problem.Errors[i] = one
		}
		field := fieldOf(one.Field)
		if b.Bad[field] != "" {
			b.Bad[field] += "; "
		}
		b.Bad[field] += one.Detail
	}
	v := f.values
	b.ID, b.URL, b.Description, b.Headers = v.Get("id"), v.Get("url"), v.Get("description"), v.Get("headers")
	b.Filter = v.Get("notificationIds")
	b.BatchMax, b.BatchWait = v.Get("batchMax"), v.Get("batchWait")
	b.Every = f.every()
	b.MaxInFlight, b.MaxPerSecond = v.Get("maxInFlight"), v.Get("maxPerSecond")
	b.Enabled, b.Paused = v.Has("enabled"), v.Has("paused")
	b.More = b.hasMore()
	b.box(c, selectedIn(c, v))
}

// fieldOf is the field of the form that a problem is about.
func fieldOf(field string) string {
	switch {
	case field == "batch.wait":
		return "batchWait"
	case field == "batch" || strings.HasPrefix(field, "batch."):
		return "batchMax"
	}
	field, _, _ = strings.Cut(field, "[")
	field, _, _ = strings.Cut(field, ".")
	return field
}

// inOrder are problems in the order of the form's fields.
func inOrder(list []badField) []badField {
	order := []string{"id", "url", "events", "notificationIds", "description", "maxInFlight", "maxPerSecond", "batchMax", "batchWait", "headers"}
	return slices.SortedStableFunc(slices.Values(list), func(a, b badField) int {
		return cmp.Compare(slices.Index(order, fieldOf(a.Field)), slices.Index(order, fieldOf(b.Field)))
	})
}

func selectedIn(c *event.Catalogue, values url.Values) (on event.Set) {
	for _, text := range values["event"] {
		if name, ok := c.Parse(text); ok {
			on = on.With(name)
		}
	}
	return on
}
