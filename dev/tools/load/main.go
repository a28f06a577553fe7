// Load is the client of the benchmarks. It sends requests to the API server, and records the changes of jobs and pods.
// It uses little CPU, so that it does not distort the measurements.
//
//	load send  < requests > answers
//	load watch > events
//
// Requests, answers and events are JSON lines. Times are nanoseconds since the epoch, by the wall clock at the start of
// the program and a monotonic clock since then.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"time"
)

var started = time.Now()

func now() int64 { return started.UnixNano() + int64(time.Since(started)) }

// server is the server of all requests, with the credentials and the client for it.
type server struct {
	url    string
	token  string
	client *http.Client
}

// connect returns a server with the bearer token of LOAD_TOKEN. It opens at most that many connections of HTTP/1.1.
func connect(url, ca string, connections int) (*server, error) {
	transport := &http.Transport{MaxConnsPerHost: connections, MaxIdleConnsPerHost: connections}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	return &server{url, os.Getenv("LOAD_TOKEN"), &http.Client{Transport: transport}}, nil
}

func (s *server) authorize(request *http.Request) {
	if s.token != "" {
		request.Header.Set("Authorization", "Bearer "+s.token)
	}
}

// lines writes JSON lines to standard output.
type lines struct {
	buffer  *bufio.Writer
	encoder *json.Encoder
}

func newLines() *lines {
	buffer := bufio.NewWriterSize(os.Stdout, 1<<20)
	return &lines{buffer, json.NewEncoder(buffer)}
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) == 0 {
		return fmt.Errorf("the command is missing: send or watch")
	}
	flags := flag.NewFlagSet(arguments[0], flag.ExitOnError)
	url := flags.String("url", "", "URL of the server")
	ca := flags.String("ca", "", "file with the CA certificate of the server")
	switch arguments[0] {
	case "send":
		connections := flags.Int("connections", 32, "maximum number of open connections")
		rate := flags.Float64("rate", 0, "requests per second; 0: as fast as they are answered")
		flags.Parse(arguments[1:])
		server, err := connect(*url, *ca, *connections)
		if err != nil {
			return err
		}
		return send(server, *connections, *rate)
	case "watch":
		var wanted wanted
		namespace := flags.String("namespace", "hub", "namespace of jobs and pods")
		flags.StringVar(&wanted.prefix, "prefix", "", "prefix of the names of jobs and pods")
		flags.StringVar(&wanted.phase, "phase", "Preparing", "phase of the jobs that -jobs counts")
		flags.IntVar(&wanted.jobs, "jobs", 0, "end after this number of jobs was in the phase, and -pods is reached")
		flags.IntVar(&wanted.pods, "pods", 0, "end after this number of pods was created, and -jobs is reached")
		flags.Parse(arguments[1:])
		server, err := connect(*url, *ca, 2)
		if err != nil {
			return err
		}
		return watch(server, *namespace, wanted)
	}
	return fmt.Errorf("unknown command %q: use send or watch", arguments[0])
}
