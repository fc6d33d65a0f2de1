// Package lab starts the real outside of fanout on this machine: Apache Kafka, redis-server, nginx, an HTTP receiver
// and fanout itself as a process of its own. The tests tagged real, and cmd/proof, are built on it.
//
// What it promises: everything listens on loopback only, on ports that were free; each process can be stopped, killed
// with SIGKILL, frozen with SIGSTOP and started again on the same port with the same data; Lab.Close ends every process
// and removes every file, and the kernel kills the processes if the test binary dies without closing.
// What is missing on the machine is an error that names the remedy, never a skip.
package lab
