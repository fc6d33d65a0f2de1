package main

import (
	"fmt"
	"slices"
	"sync"
)

// problems collects what must not happen. It is safe for concurrent use.
type problems struct {
	mu   sync.Mutex // guards all
	all  []string
	more int
}

// addf notes a problem; beyond a thousand they are only counted.
func (p *problems) addf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.all) == 1000 {
		p.more++
		return
	}
	p.all = append(p.all, fmt.Sprintf(format, args...))
}

func (p *problems) list() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.more > 0 {
		return append(slices.Clone(p.all), fmt.Sprintf("%d more", p.more))
	}
	return slices.Clone(p.all)
}
