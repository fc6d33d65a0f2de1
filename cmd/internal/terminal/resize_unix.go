//go:build unix

package terminal

import (
	"os"
	"os/signal"
	"syscall"
)

// onResize sends to resized when the terminal changes its size, until stop is called.
func onResize(resized chan<- struct{}) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGWINCH)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-signals:
				select {
				case resized <- struct{}{}:
				default: // it is going to be drawn again already
				}
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
		<-ended
	}
}
