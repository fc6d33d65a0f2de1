package consumer_test

import (
	"flag"
	"testing"
)

// TestMain runs many tests beside each other, unless -parallel says how many: they wait for most of their time.
func TestMain(m *testing.M) {
	flag.Parse()
	told := false
	flag.Visit(func(f *flag.Flag) { told = told || f.Name == "test.parallel" })
	if !told {
		if err := flag.Set("test.parallel", "10"); err != nil {
			panic(err)
		}
	}
	m.Run() // the test binary exits with its result
}
