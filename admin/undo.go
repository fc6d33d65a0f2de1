package admin

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// undos are what was deleted on the dashboard of this instance a short while ago, for people who answered the question too fast.
type undos struct {
	mu   sync.Mutex // guards list
	list map[string]undo
}

type undo struct {
	account, id string
	data        []byte
	until       time.Time
}

// Bounds of what is kept for undoing.
const (
	undoLasts = 10 * time.Minute
	maxUndos  = 100
)

// deleteUndoably removes a webhook. The token brings it back, on this instance.
func (p *panel) deleteUndoably(ctx context.Context, by caller, account, id string) (token string, err error) {
	var deleted []byte
	err = p.rewrite(ctx, by, account, id, func(stored []byte, _ time.Time) ([]byte, error) {
		deleted = stored
		return nil, nil
	})
	if err != nil {
		return "", err
	}
	p.undos.mu.Lock()
	defer p.undos.mu.Unlock()
	now := time.Now()
	for key, u := range p.undos.list {
		if now.After(u.until) || len(p.undos.list) >= maxUndos {
			delete(p.undos.list, key)
		}
	}
	if p.undos.list == nil {
		p.undos.list = make(map[string]undo)
	}
	token = rand.Text()
	p.undos.list[token] = undo{account, id, deleted, now.Add(undoLasts)}
	return token, nil
}

// undo brings back what was deleted, unless the name has been taken meanwhile.
func (p *panel) undo(ctx context.Context, by caller, account, token string) (id string, err error) {
	p.undos.mu.Lock()
	u, ok := p.undos.list[token]
	p.undos.mu.Unlock()
	if !ok || u.account != account || time.Now().After(u.until) {
		return "", problemf(http.StatusNotFound, "it is too late to undo this")
	}
	_, err = p.Store.As(by.actor).Update(ctx, account, u.id, func(stored json.RawMessage) (json.RawMessage, error) {
		if stored != nil {
			return nil, problemf(http.StatusConflict, "there is a webhook of that name again")
		}
		return u.data, nil
	})
	if err != nil {
		return "", err
	}
	p.changed(by, account, u.id, nil, u.data)
	p.undos.mu.Lock()
	delete(p.undos.list, token)
	p.undos.mu.Unlock()
	return u.id, p.enforce(ctx, account)
}
