package main

import (
	"io"
	"runtime"
	"testing"
	"weak"

	"github.com/spf13/pflag"
)

// Completers are made for a shell that asks, and for nothing else: cobra keeps them, and with them the flags.
func TestFlagsAreNotKept(t *testing.T) {
	t.Parallel()
	made := func(args ...string) weak.Pointer[pflag.Flag] {
		return weak.Make((&app{stdout: io.Discard, stderr: io.Discard}).command(args).PersistentFlags().Lookup("output"))
	}
	once, asked := made("version"), made("__complete", "version", "")
	for range 3 {
		runtime.GC()
	}
	if once.Value() != nil {
		t.Error("the flags are kept")
	}
	if asked.Value() == nil {
		t.Error("a shell's question leaves nothing: what does this test see?")
	}
}
