package admin

import "net/http"

// question is what the tab asks before it does what receivers notice at once. The button below it sends the form once more,
// with the answer in it: no script is needed.
type question struct {
	Text, Button          string
	Action, Secret, Hours string // of the form that was sent
}

// asks is the tab with a question, where the action is one that asks and the form does not hold the answer yet; else nil.
func (p *pages) asks(r *http.Request, s scope, id, action string) (*settingsBody, error) {
	q := &question{Action: action, Secret: r.PostForm.Get("secret"), Hours: r.PostForm.Get("hours")}
	switch {
	case r.PostForm.Has("sure"):
		return nil, nil //nolint:nilnil // there is nothing to ask
	case action == "delete":
		q.Text = "Nothing is sent to it any more, and what waits for another attempt is discarded. For ten minutes it can be brought back."
		q.Button = "Yes, delete it"
	case action == "retire":
		q.Text = "Deliveries are no longer signed with the secret " + q.Secret + ". A receiver that verifies with it alone refuses all of them."
		q.Button = "Yes, remove the secret"
	case action == "rotate" && q.Hours == "0":
		q.Text = "The present secret ceases to sign at once. A receiver refuses all deliveries until it has the new one."
		q.Button = "Yes, rotate and remove the present secret"
	default:
		return nil, nil //nolint:nilnil // the same
	}
	body, err := p.settingsOf(r, s, id, false)
	if err != nil || body.New || body.ID != id { // there is none: the action says so
		return nil, err
	}
	body.Question = q
	return body, nil
}
