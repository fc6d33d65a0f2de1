//go:build profile

package main

import (
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
)

// A program that is built with -tags profile writes cpu.pprof, of the time between a first SIGUSR1 and a second one,
// to the folder it runs in. `bench pipeline -profile FILE` asks for that.
func init() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		<-signals
		file, err := os.Create("cpu.pprof")
		if err != nil {
			panic(err)
		}
		if err := pprof.StartCPUProfile(file); err != nil {
			panic(err)
		}
		<-signals
		pprof.StopCPUProfile()
		if err := file.Close(); err != nil {
			panic(err)
		}
	}()
}
