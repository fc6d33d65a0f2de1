package admin

import (
	"context"
	"crypto/rand"
	"net/http"
	"sync"
	"time"
)

// undos are what was deleted on the dashboard of this instance a short while ago, so that Delete needs no question.
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

func (p *panel) deleteUndoably(ctx context.Context, account, id string) (token string, err error) {
	data, ok, err := p.Store.Get(ctx, account, id)
	if err != nil {
		return "", err
	}
	if !ok {
		return "", errNoSubscription
	}
	if err := p.delete(ctx, account, id); err != nil {
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
	p.undos.list[token] = undo{account, id, data, now.Add(undoLasts)}
	return token, nil
}

// undo brings back what was deleted, unless the name has been taken meanwhile.
func (p *panel) undo(ctx context.Context, account, token string) (id string, err error) {
	p.undos.mu.Lock()
	u, ok := p.undos.list[token]
	p.undos.mu.Unlock()
	if !ok || u.account != account || time.Now().After(u.until) {
		return "", problemf(http.StatusNotFound, "it is too late to undo this")
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	if _, taken, err := p.Store.Get(ctx, account, u.id); err != nil || taken {
		if err == nil {
			err = problemf(http.StatusConflict, "there is a webhook of that name again")
		}
		return "", err
	}
	if _, err := p.Store.Put(ctx, account, u.id, u.data); err != nil {
		return "", err
	}
	p.undos.mu.Lock()
	delete(p.undos.list, token)
	p.undos.mu.Unlock()
	return u.id, p.Directory.Refresh(ctx, account)
}
