//go:build !unix

package terminal

// onResize does nothing: the size is asked for whenever a page is drawn.
func onResize(chan<- struct{}) (stop func()) { return func() {} }
