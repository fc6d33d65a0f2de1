// Package terminal is how the commands show text to a person: values made visible and harmless, tables fitted to a width,
// and a screen that is drawn again and again.
//
// Widths are in cells: a Latin letter takes one, a Chinese character or an emoji two, a combining mark none. The package
// knows nothing of fanout.
package terminal
