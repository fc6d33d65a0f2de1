// Package wire has tests only, tagged "wire": servers that are not ours as receivers of `fanout run`. nginx, Node, uvicorn, Tomcat,
// Undertow, Jetty, Caddy and Go's own server read what it sends: each path of testdata/urls.json, and one request a second, which is
// just when they close their idle connections.
//
// `make test-wire` installs what they need and runs them. What is missing fails a test, with that remedy.
package wire
