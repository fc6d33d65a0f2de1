package admin

import (
	"cmp"
	"slices"
	"strings"
)

// maxAccounts bounds the accounts that are proposed at once.
const maxAccounts = 20

// foundAccount is an account that has webhooks.
type foundAccount struct {
	Account  string
	Webhooks int

	within bool // the part that was looked for is not at the id's beginning
}

// accountsLike finds the accounts that have part in their id: those that begin with it first, then by id. More counts the
// others that have it.
func (p *panel) accountsLike(part string) (list []foundAccount, more int) {
	part = strings.ToLower(strings.TrimSpace(part))
	n := 0
	first := func() {
		slices.SortFunc(list, func(a, b foundAccount) int {
			return cmp.Or(compareBool(a.within, b.within), cmp.Compare(a.Account, b.Account))
		})
		list = list[:min(len(list), maxAccounts)]
	}
	last := ""
	for sub := range p.Directory.All() { // account by account
		account := sub.Account()
		if account == last {
			if len(list) > 0 && list[len(list)-1].Account == account {
				list[len(list)-1].Webhooks++
			}
			continue
		}
		last = account
		at := strings.Index(strings.ToLower(account), part)
		if at < 0 {
			continue
		}
		if n++; len(list) >= 50*maxAccounts {
			first()
		}
		list = append(list, foundAccount{account, 1, at > 0})
	}
	first()
	return list, n - len(list)
}

// compareBool puts false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
