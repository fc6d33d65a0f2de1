package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// errNotRunning is what a signal to a process that is not there answers.
var errNotRunning = errors.New("not running")

// Process is one program that the lab runs, in a process group of its own, with its output in a file. It may be
// started again after it has ended. Its methods are safe for concurrent use.
type Process struct {
	name string
	dir  string
	args []string // the program first
	env  []string // on top of the environment

	mu   sync.Mutex // guards cmd and done
	cmd  *exec.Cmd  // nil before the first start
	done chan struct{}
}

func (l *Lab) process(name, dir string, args ...string) *Process {
	p := &Process{name: name, dir: dir, args: args}
	l.onClose(func() { _ = p.Kill() })
	return p
}

// Log is the path of the file with the program's output, of all its starts.
func (p *Process) Log() string { return filepath.Join(p.dir, p.name+".log") }

// PID is the process's id, 0 before the first start.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Running says whether the process has been started and has not ended.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running()
}

func (p *Process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// start runs the program; it is an error if it runs already.
func (p *Process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		return fmt.Errorf("start %s: runs already", p.name)
	}
	log, err := os.OpenFile(p.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	// No context: the life of a process is the lab's, not that of the call that starts it.
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, log, log
	cmd.Env = append(os.Environ(), p.env...)
	// Its own group, so that a Ctrl-C at the terminal is the lab's to handle; and no life without us.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	go func() {
		defer close(done)
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
	}()
	return nil
}

// ready waits until ok says true; it is an error, at once, if the process ends.
func (p *Process) ready(ctx context.Context, ok func() bool) error {
	ended := false
	err := Await(ctx, p.name, func() bool {
		ended = !p.Running()
		return ended || ok()
	})
	if err == nil && ended {
		return fmt.Errorf("%s ended while it was starting: see %s", p.name, p.Log())
	}
	return err
}

// Signal sends a signal to the process and its children.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return fmt.Errorf("%s %s: %w", sig, p.name, errNotRunning)
	}
	return syscall.Kill(-p.cmd.Process.Pid, sig)
}

// Wait returns the exit code once the process has ended, -1 where a signal ended it.
func (p *Process) Wait(ctx context.Context) (int, error) {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.mu.Unlock()
	if cmd == nil {
		return 0, fmt.Errorf("wait %s: %w", p.name, errNotRunning)
	}
	select {
	case <-done:
		return cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("wait %s: %w", p.name, context.Cause(ctx))
	}
}

// Stop ends the process with SIGTERM and waits; when ctx ends first, with SIGKILL, and that is an error.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	_, err := p.Wait(ctx)
	if err != nil {
		_ = p.Kill()
	}
	return err
}

// Kill ends the process and its children with SIGKILL, and waits. It is not an error if it has ended already.
func (p *Process) Kill() error {
	err := p.Signal(syscall.SIGKILL)
	if errors.Is(err, errNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	<-p.done
	return nil
}

// Pause freezes the process with SIGSTOP: its connections stay up, and nothing answers.
func (p *Process) Pause() error { return p.Signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (p *Process) Resume() error { return p.Signal(syscall.SIGCONT) }

// Usage is what the operating system charges a process with.
type Usage struct {
	CPU      time.Duration // user and system time since its start, in steps of 10 ms
	Resident int64         // bytes of memory now
	Peak     int64         // bytes of memory at most
	Calls    int64         // read(2) and write(2) since its start, those of sockets too
}

// Usage reads what the running process has used so far, from /proc.
func (p *Process) Usage() (Usage, error) { return usageOf(p.PID()) }

// SelfUsage is the Usage of the calling process.
func SelfUsage() (Usage, error) { return usageOf(os.Getpid()) }

// usageOf reads /proc/PID/stat, status and io (proc(5)); a tick is 10 ms on every Linux that Go runs on.
func usageOf(pid int) (Usage, error) {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return Usage{}, err
	}
	// The second field, the name in brackets, may hold anything: count from behind it.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const utime, stime = 11, 12
	if len(fields) <= stime {
		return Usage{}, fmt.Errorf("%s/stat: %d fields", proc, len(fields))
	}
	var ticks int64
	for _, i := range []int{utime, stime} {
		n, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			return Usage{}, fmt.Errorf("%s/stat: %w", proc, err)
		}
		ticks += n
	}
	u := Usage{CPU: time.Duration(ticks) * 10 * time.Millisecond}
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		return Usage{}, err
	}
	calls, err := os.ReadFile(filepath.Join(proc, "io"))
	if err != nil {
		return Usage{}, err
	}
	for line := range bytes.Lines(calls) {
		var n int64
		if name, number, _ := strings.Cut(strings.TrimSpace(string(line)), ": "); name == "syscr" || name == "syscw" {
			if n, err = strconv.ParseInt(number, 10, 64); err != nil {
				return Usage{}, fmt.Errorf("%s/io: %w", proc, err)
			}
			u.Calls += n
		}
	}
	for line := range bytes.Lines(status) {
		var kib int64
		if n, _ := fmt.Sscanf(string(line), "VmRSS: %d kB", &kib); n == 1 {
			u.Resident = kib << 10
		}
		if n, _ := fmt.Sscanf(string(line), "VmHWM: %d kB", &kib); n == 1 {
			u.Peak = kib << 10
		}
	}
	return u, nil
}
