// Load is the benchmarks' client of the API server: it sends requests and watches what becomes of them,
// and costs little CPU, so that it does not distort what it measures.
//
//	load send  < requests > answers
//	load watch > events
//
// Requests, answers and events are JSON lines. Times are nanoseconds since the epoch: the wall clock when the
// program started, and a monotonic clock since. What the figures mean is for their reader.
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

// server is where requests go, and how.
type server struct {
	url    string
	token  string
	client *http.Client
}

// connect reads who to be from LOAD_TOKEN; at most so many connections are open at a time, of HTTP/1.1.
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
		return fmt.Errorf("send or watch?")
	}
	flags := flag.NewFlagSet(arguments[0], flag.ExitOnError)
	url := flags.String("url", "", "of the server")
	ca := flags.String("ca", "", "file with the certificate of its authority")
	switch arguments[0] {
	case "send":
		connections := flags.Int("connections", 32, "open at a time")
		rate := flags.Float64("rate", 0, "requests a second; 0: as fast as they are answered")
		flags.Parse(arguments[1:])
		server, err := connect(*url, *ca, *connections)
		if err != nil {
			return err
		}
		return send(server, *connections, *rate)
	case "watch":
		var wanted wanted
		namespace := flags.String("namespace", "hub", "of jobs and pods")
		flags.StringVar(&wanted.prefix, "prefix", "", "of the names of jobs and pods")
		flags.StringVar(&wanted.phase, "phase", "Preparing", "in which jobs are awaited")
		flags.IntVar(&wanted.jobs, "jobs", 0, "end when so many jobs have been in the phase ...")
		flags.IntVar(&wanted.pods, "pods", 0, "... and so many pods were created")
		flags.Parse(arguments[1:])
		server, err := connect(*url, *ca, 2)
		if err != nil {
			return err
		}
		return watch(server, *namespace, wanted)
	}
	return fmt.Errorf("no command %q", arguments[0])
}
