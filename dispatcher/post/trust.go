package post

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"fanout/credential"
)

// Files are the PEM files of TLS; empty paths mean none. They are read at the start, and again when they have changed:
// mounted secrets rotate without a restart.
type Files struct {
	CA   string // roots to trust beside the system's
	Cert string // the certificate for receivers that ask for one
	Key  string // its key
}

// Check reads the files, and returns what is wrong with them: joined errors, each of which begins with the key of the
// configuration.
func (f Files) Check() error {
	_, rootsErr := f.roots()
	_, certErr := f.certificate()
	return errors.Join(rootsErr, certErr)
}

// Trusts reports whether there are roots at all, of the system or the file.
func (f Files) Trusts() bool {
	pool, err := f.roots()
	return err == nil && (pool == nil || !pool.Equal(x509.NewCertPool()))
}

// roots is the system's roots with those of the file; nil without a file where the system has some.
func (f Files) roots() (*x509.CertPool, error) {
	system := systemRoots()
	if f.CA == "" {
		if system == nil {
			return x509.NewCertPool(), nil
		}
		return nil, nil //nolint:nilnil // crypto/tls takes the system's then
	}
	pool := x509.NewCertPool()
	if system != nil {
		pool = system
	}
	if err := credential.AddRoots(pool, "egress.ca_file", f.CA); err != nil {
		return nil, err
	}
	return pool, nil
}

func (f Files) certificate() (*tls.Certificate, error) {
	if f.Cert == "" {
		return nil, nil //nolint:nilnil // none is a valid configuration
	}
	pair, err := credential.Certificate("egress.client_cert_file", f.Cert, f.Key)
	if err != nil {
		return nil, err
	}
	return &pair, nil
}

// systemRoots is the roots of this system; nil where there are none.
func systemRoots() *x509.CertPool {
	pool, err := x509.SystemCertPool()
	if err == nil && !pool.Equal(x509.NewCertPool()) {
		return pool
	}
	return lateRoots()
}

// lateRoots is roots that have been installed or mounted since this process began; nil where there are none.
// crypto/x509 looks for them once in a process's life.
func lateRoots() *x509.CertPool {
	pool, found := x509.NewCertPool(), false
	files := []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem"}
	if file := os.Getenv("SSL_CERT_FILE"); file != "" {
		files = []string{file}
	}
	for _, dir := range filepath.SplitList(os.Getenv("SSL_CERT_DIR")) {
		more, _ := filepath.Glob(filepath.Join(dir, "*"))
		files = append(files, more...)
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && pool.AppendCertsFromPEM(text) { //nolint:gosec // the files are the operator's
			found = true
		}
	}
	if !found {
		return nil
	}
	return pool
}

const (
	rereadTrust   = 10 * time.Second // how often the files are looked at
	rereadNothing = time.Second      // the same while there are no roots at all
)

// trust is the TLS configuration that follows its files. It is safe for concurrent use.
type trust struct {
	files Files
	roots *x509.CertPool // instead of the system's and the file's; nil: those

	mu      sync.Mutex // guards all below
	config  *tls.Config
	cert    *tls.Certificate
	empty   bool // there are no roots at all
	checked time.Time
	stamps  [3]stamp
}

// stamp tells whether a file has changed.
type stamp struct {
	changed time.Time
	size    int64
}

// load reads what there is at the start.
func (t *trust) load(now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.read(now)
}

// current is the configuration, which must not be changed, and the certificate of this process; nil: none.
func (t *trust) current(now time.Time) (*tls.Config, *tls.Certificate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	after := rereadTrust
	if t.empty {
		after = rereadNothing
	}
	if now.Sub(t.checked) >= after {
		t.checked = now
		if t.empty || t.stamps != t.files.stamps() {
			_ = t.read(now) // a file that cannot be read any more counts as unchanged: it may be half written
		}
	}
	return t.config, t.cert
}

// noRoots reports whether there are no roots at all, so that no certificate verifies.
func (t *trust) noRoots() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.empty
}

// keptSessions are the hosts whose TLS sessions can be resumed: more than there are kept connections (Config.MaxIdle), since
// a host whose connection is kept has no use for its session. Each takes about 10 KiB with the host's certificates.
// All accounts share them, the oldest goes first, and a host without one only costs a full handshake.
const keptSessions = 4096

// read makes the configuration. t is locked.
func (t *trust) read(now time.Time) error {
	t.checked = now
	stamps := t.files.stamps()
	roots, err := t.roots, error(nil)
	if roots == nil {
		roots, err = t.files.roots()
	}
	if err != nil {
		return err
	}
	cert, err := t.files.certificate()
	if err != nil {
		return err
	}
	t.cert, t.stamps, t.empty = cert, stamps, roots != nil && roots.Equal(x509.NewCertPool())
	t.config = &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"http/1.1"},
		RootCAs:            roots,
		ClientSessionCache: tls.NewLRUClientSessionCache(keptSessions), // a new one: what was trusted before may not be now
	}
	return nil
}

func (f Files) stamps() (all [3]stamp) {
	for i, path := range []string{f.CA, f.Cert, f.Key} {
		if info, err := os.Stat(path); path != "" && err == nil {
			all[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return all
}
