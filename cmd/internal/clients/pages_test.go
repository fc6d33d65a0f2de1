//go:build clients

package clients_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"fanout/cmd/internal/lab"
)

// A person with a fresh clone of HEAD, a Kafka and a Redis follows README.md and docs/getting-started.md to the first
// delivery, then the other pages: bash runs every block that says so (`<!-- run: TestPages -->`), as it is written. It is
// all in a network of its own, in which the pages' ports are free and nothing else can be reached.
func TestPages(t *testing.T) {
	if os.Getenv("FANOUT_PAGES") == "" {
		inOwnNetwork(t)
		return
	}
	loopbackUp(t)
	lab.RequireKafka(t)
	shared, err := theStage()
	if err != nil {
		t.Fatal(err)
	}
	redis, err := shared.lab.Redis(within(t, 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	forward(t, "127.0.0.1:9092", shared.kafka.Addr())
	forward(t, "127.0.0.1:6379", redis.Addr())
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "git", "clone", "-q", rootOf(t), filepath.Join(dir, "fanout")).CombinedOutput(); err != nil {
		t.Fatalf("git clone: %v: %s", err, out)
	}
	captured := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if dump, err := httputil.DumpRequest(r, true); err == nil {
			_ = os.WriteFile(filepath.Join(dir, "fanout", "request.txt"), dump, 0o600)
		}
	}))
	captured.Start()
	defer captured.Close()

	w := &walk{dir: filepath.Join(dir, "fanout")}
	w.page(t, "README.md", 0, 1)
	w.page(t, "docs/getting-started.md", 0, 99)
	first := len(w.commands)
	w.more(t, "http://"+captured.Listener.Addr().String())
	w.run(t, dir, first)
}

// more adds the other pages, with what each supposes to be there already.
func (w *walk) more(t *testing.T, captured string) {
	t.Helper()
	whsec := "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	subscribe := func(id, url string) {
		w.prepare(`redis-cli HSET fanout:account:acme ` + id + ` '{"url":"` + url + `","events":["*"],"secrets":["` + whsec + `"]}'`)
	}
	// The check is step 2 and the subscription step 4: with one whose host has a name, check wants DNS, which tests do not.
	w.prepare(`kafka-topics.sh --bootstrap-server 127.0.0.1:9092 --create --topic bounces`)
	w.prepare(`redis-cli DEL fanout:account:acme`)
	w.prepare(`FANOUT_KAFKA_BROKERS=127.0.0.1:9092 FANOUT_REDIS_URL=redis://127.0.0.1:6379/0 fanout check --config README.md.yaml`)
	w.page(t, "README.md", 1, 99)
	subscribe("crm", "http://127.0.0.1:9000/hooks")
	w.prepare(`echo '{"accountId":"acme","type":"bounced","message":{"tracking_id":"b1"},"notificationId":"n","userId":"u"}' > bounce.json`)
	w.page(t, "docs/producers.md", 0, 1) // the mapping
	w.prepare(`{ grep -v -e sources: -e topic: fanout.yaml; cat docs/producers.md.yaml; } > next.yaml`)
	w.page(t, "docs/producers.md", 1, 99)
	w.page(t, "docs/sync-jobs.md", 0, 2)
	subscribe("crm", "http://127.0.0.1:9000/hooks")
	// In a folder of its own: the clone's subscriptions/ is a package.
	w.prepare(`mkdir -p ../mine/subscriptions && cp fanout.yaml ../mine && cd ../mine && printf '%s\n' 'account: acme' 'id: crm' 'url: http://127.0.0.1:9000/hooks' 'events: [EMAIL_OPEN]' > subscriptions/acme.yaml`)
	w.page(t, "docs/sync-jobs.md", 2, 99)
	w.prepare(`cd ../fanout`)
	subscribe("captured", captured)
	w.prepare(`fanout subscriptions test acme captured && echo ` + whsec + ` > secret.txt`)
	w.page(t, "docs/receivers.md", 0, 99)
	for _, page := range []string{"docs/production.md", "docs/privacy.md", "docs/compose.md", "docs/systemd.md"} {
		w.page(t, page, 0, 99)
	}
	w.prepare(`kill %1; wait %1`)
}

// walk is what a person types into one terminal, in the clone.
type walk struct {
	dir      string
	commands []command
}

type command struct {
	page, text string // no page: prepared by the test
}

var (
	blocks = regexp.MustCompile("(?ms)(?:^[ \t]*<!-- (run: TestPages|not run: [^>]*?) -->\n\n)?^[ \t]*```(\\w+)\n(.*?)^[ \t]*```")
	// whole are pages on which every block of commands is run.
	whole = map[string]bool{"docs/getting-started.md": true}
)

func (w *walk) prepare(text string) { w.commands = append(w.commands, command{"", text}) }

// page adds the commands of a page's blocks, of those that are run from the from-th to before the to-th. YAML is written to
// a file beside the page.
func (w *walk) page(t *testing.T, page string, from, to int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, page))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, found := range blocks.FindAllStringSubmatch(string(text), -1) {
		comment, language, block := found[1], found[2], found[3]
		isRun := strings.HasPrefix(comment, "run: ") || whole[page] && strings.Contains(" sh bash console ", " "+language+" ")
		if !isRun {
			continue
		}
		if n++; n <= from || n > to {
			continue
		}
		switch {
		case language == "yaml":
			if err := os.WriteFile(filepath.Join(w.dir, page+".yaml"), []byte(block), 0o600); err != nil {
				t.Fatal(err)
			}
		case strings.Contains(comment, "receiver"): // in a second terminal
			line := strings.TrimSpace(block)
			w.commands = append(w.commands, command{page, "( " + line + " > ../receiver.log 2>&1 & ); until grep -q waiting ../receiver.log; do sleep 0.1; done"})
		default:
			for _, one := range split(block) {
				w.commands = append(w.commands, command{page, one})
			}
		}
	}
	if n <= from {
		t.Fatalf("%s has only %d blocks", page, n)
	}
}

var heredoc = regexp.MustCompile(`<<'(\w+)'`)

// split takes a block apart into commands: lines, but for here-documents and continued ones.
func split(block string) (commands []string) {
	pending, end := "", ""
	for line := range strings.SplitSeq(strings.TrimRight(block, "\n"), "\n") {
		pending += line + "\n"
		if found := heredoc.FindStringSubmatch(line); found != nil {
			end = found[1]
			continue
		}
		if end != "" && line != end || end == "" && strings.HasSuffix(line, "\\") {
			continue
		}
		if strings.TrimSpace(pending) != "" {
			commands = append(commands, strings.TrimRight(pending, "\n"))
		}
		pending, end = "", ""
	}
	return commands
}

// run runs everything in one bash, and says what each command took. The first delivery must be there after `first` commands.
func (w *walk) run(t *testing.T, dir string, first int) {
	t.Helper()
	bin := filepath.Join(dir, "bin") // what a Kafka distribution has in its own
	tool := "#!/bin/sh\nexec java -cp '" + filepath.Join(rootOf(t), ".real", "kafka", "lib", "*") + "' org.apache.kafka.tools.TopicCommand \"$@\"\n"
	if err := os.MkdirAll(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "kafka-topics.sh"), []byte(tool), 0o700); err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString("exec 3> ../times\n")
	for i, c := range w.commands {
		if i == first {
			script.WriteString("cp ../receiver.log ../first.log\n")
		}
		fmt.Fprintf(&script, "__began=${EPOCHREALTIME/[.,]/}\n%s\n"+
			"__status=$?; echo \"$__status $((${EPOCHREALTIME/[.,]/} - __began))\" >&3; [ $__status = 0 ] || exit 1\n", c.text)
	}
	ctx := within(t, 7*time.Minute)
	cmd := exec.CommandContext(ctx, "bash", "-c", script.String())
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+dir, "GOPATH="+goEnv(t, "GOPATH"), "GOCACHE="+goEnv(t, "GOCACHE"), "GOMODCACHE="+goEnv(t, "GOMODCACHE"), "GOFLAGS=-mod=mod")
	if cold := os.Getenv("FANOUT_PAGES_GOCACHE"); cold != "" {
		cmd.Env = append(cmd.Env, "GOCACHE="+cold)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = 5 * time.Second // what runs in the background holds the output open
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // the receiver goes with the terminal
		<-t.Context().Done()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}()
	_ = cmd.Wait() // what failed is among the times
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	w.report(t, dir, output.String(), first)
}

func (w *walk) report(t *testing.T, dir, output string, first int) {
	t.Helper()
	times, err := os.ReadFile(filepath.Join(dir, "times"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(times))
	typed, toFirst, all := 0, time.Duration(0), time.Duration(0)
	for i, c := range w.commands {
		if 2*i+1 >= len(lines) || lines[2*i] != "0" {
			t.Fatalf("%s: this command failed: %s\n%s", c.page, c.text, output)
		}
		microseconds, _ := strconv.Atoi(lines[2*i+1])
		took := time.Duration(microseconds) * time.Microsecond
		if c.page == "" {
			continue
		}
		typed++
		all += took
		if i < first {
			toFirst += took
		}
		t.Logf("%8.2fs %-23s %.90s", took.Seconds(), c.page, strings.SplitN(c.text, "\n", 2)[0])
	}
	t.Logf("%d commands of README.md and getting-started.md to the account of the first delivery, %.1fs; %d of all pages, %.1fs", first, toFirst.Seconds(), typed, all.Seconds())
	received, err := os.ReadFile(filepath.Join(dir, "first.log"))
	if err != nil {
		t.Fatal(err)
	}
	// The sample of step 5, and the event of step 7.
	if n := strings.Count(string(received), `webhook-signature "v1,`); n != 2 || !strings.Contains(string(received), `{"eventType":"OPEN","trackingId":"abc123","notificationId":"welcome-email","channel":"EMAIL","userId":"user-123"}`) {
		t.Errorf("%d deliveries came, want 2:\n%s", n, received)
	}
	for _, want := range []string{"nothing lost", "  ready", "✓ crm", "delivered"} {
		if !strings.Contains(output, want) {
			t.Errorf("the pages' commands do not show %q", want)
		}
	}
	if t.Failed() || testing.Verbose() && os.Getenv("FANOUT_PAGES") == "output" {
		t.Log(output)
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// inOwnNetwork runs the test again, in a network namespace; who is not root needs a user namespace for that.
func inOwnNetwork(t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(within(t, 9*time.Minute), os.Args[0], "-test.run=^TestPages$", "-test.v", "-test.timeout=9m")
	cmd.Env = append(os.Environ(), "FANOUT_PAGES=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("\n%s", out)
}

// loopbackUp switches on lo, which is down in a new network.
func loopbackUp(t *testing.T) {
	t.Helper()
	ifreq := append([]byte("lo"), make([]byte, 38)...)
	ifreq[16] = syscall.IFF_UP
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(socket)
	if err := ioctl(socket, syscall.SIOCSIFFLAGS, ifreq); err != nil {
		t.Fatalf("lo: %v", err)
	}
}

// forward makes a server of this machine known at another port.
func forward(t *testing.T, from, to string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(context.WithoutCancel(t.Context()), "tcp", from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go pipe(c, to)
		}
	}()
}

// pipe copies both ways until both sides have ended.
func pipe(c net.Conn, to string) {
	defer c.Close()
	d, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer d.Close()
	go func() {
		_, _ = io.Copy(d, c)
		_ = d.Close()
	}()
	_, _ = io.Copy(c, d)
}

func ioctl(fd int, request uintptr, argument []byte) error {
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&argument[0])))
	if errno != 0 {
		return errno
	}
	return nil
}
