package subscriptions

import (
	"cmp"
	"maps"
	"slices"
	"sync"
)

// Problem is a subscription that does not validate as it is stored.
type Problem struct {
	Account  string
	ID       string
	Err      *ValidationError
	LastGood bool // its last good version is in force
}

type problem struct {
	err      *ValidationError
	hash     uint64 // of the JSON that has it
	lastGood bool
}

// problems are the subscriptions that do not validate as they are stored. Whoever writes them is serialised by the applier.
type problems struct {
	mu        sync.Mutex
	byAccount map[string]map[string]*problem // account → id
}

// put notes a problem, and says whether the stored JSON had it already.
func (p *problems) put(account, id string, now *problem) (known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.byAccount[account][id]
	if p.byAccount == nil {
		p.byAccount = make(map[string]map[string]*problem)
	}
	if p.byAccount[account] == nil {
		p.byAccount[account] = make(map[string]*problem)
	}
	p.byAccount[account][id] = now
	return was != nil && was.hash == now.hash
}

// forget is for a subscription that validates again, or is gone.
func (p *problems) forget(account, id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.byAccount[account], id)
	if len(p.byAccount[account]) == 0 {
		delete(p.byAccount, account)
	}
}

// at returns nil where the subscription has none.
func (p *problems) at(account, id string) *problem {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byAccount[account][id]
}

// of returns those of an account, by id. The map is the caller's.
func (p *problems) of(account string) map[string]*problem {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.byAccount[account]) // nil for nearly every account
}

// list returns the account's problems, sorted by id; those of all accounts for "".
func (p *problems) list(account string) []Problem {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []Problem
	for name, byID := range p.byAccount {
		if account != "" && account != name {
			continue
		}
		for id, p := range byID {
			list = append(list, Problem{name, id, p.err, p.lastGood})
		}
	}
	slices.SortFunc(list, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.ID, b.ID))
	})
	return list
}
