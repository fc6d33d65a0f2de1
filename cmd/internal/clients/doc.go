// Package clients has tests only, tagged "clients": programs that are not ours at the other side of each contract.
// Producers, config sync jobs and receivers in their own languages, with the libraries that people use there, against
// Apache Kafka, redis-server and `fanout run`; and the pages' commands, as written, in a fresh clone.
//
// `make test-clients` installs what they need and runs them. What is missing fails a test, with that remedy.
package clients
