package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// maxLineBytes limits one request. The largest is a transaction of etcd with a hundred objects.
const maxLineBytes = 16 << 20

type request struct {
	Key    string          `json:"key"`
	Method string          `json:"method"`
	Path   string          `json:"path"`
	Type   string          `json:"type"`
	Body   json.RawMessage `json:"body"`
}

type answer struct {
	Key      string `json:"key"`
	Status   int    `json:"status"` // The HTTP status; 0 if there was no answer.
	Sent     int64  `json:"sent"`
	Answered int64  `json:"answered"`
	UID      string `json:"uid,omitempty"`
	Version  string `json:"version,omitempty"`
	Said     string `json:"said,omitempty"` // The body of an answer that is not a success, or the error.
}

// send sends the requests of standard input in their order, up to connections at a time. It writes the answers in the
// order in which they arrive.
func send(server *server, connections int, rate float64) error {
	requests := make(chan request, 2*connections)
	answers := make(chan answer, 2*connections)
	var workers sync.WaitGroup
	for range connections {
		workers.Go(func() {
			for request := range requests {
				answers <- server.do(request)
			}
		})
	}
	failed := make(chan error, 1)
	go func() {
		failed <- read(requests, rate)
		close(requests)
		workers.Wait()
		close(answers)
	}()
	out := newLines()
	for answer := range answers {
		if err := out.encoder.Encode(answer); err != nil {
			return err
		}
	}
	if err := <-failed; err != nil {
		return err
	}
	return out.buffer.Flush()
}

// read passes the requests on. With a rate, it passes each one on when it is due.
func read(requests chan<- request, rate float64) error {
	scanner := bufio.NewScanner(os.Stdin)
	scanner.Buffer(make([]byte, 1<<20), maxLineBytes)
	begun := time.Now()
	for number := 0; scanner.Scan(); number++ {
		var next request
		if err := json.Unmarshal(scanner.Bytes(), &next); err != nil {
			return err
		}
		if rate > 0 {
			time.Sleep(time.Until(begun.Add(time.Duration(float64(number) / rate * float64(time.Second)))))
		}
		requests <- next
	}
	return scanner.Err()
}

// do sends a request. It returns the answer, with the uid and version of the object in its body.
func (s *server) do(sent request) answer {
	result := answer{Key: sent.Key, Sent: now()}
	body, err := s.call(sent, &result)
	result.Answered = now()
	if err != nil {
		result.Said = err.Error()
		return result
	}
	if result.Status >= 300 {
		result.Said = string(body)
		return result
	}
	var object struct {
		Metadata struct{ UID, ResourceVersion string }
	}
	if json.Unmarshal(body, &object) == nil {
		result.UID, result.Version = object.Metadata.UID, object.Metadata.ResourceVersion
	}
	return result
}

// call sends a request and writes the status to the result. It returns the body of the answer.
func (s *server) call(sent request, result *answer) ([]byte, error) {
	call, err := http.NewRequest(sent.Method, s.url+sent.Path, bytes.NewReader(sent.Body))
	if err != nil {
		return nil, err
	}
	s.authorize(call)
	call.Header.Set("Content-Type", sent.Type)
	response, err := s.client.Do(call)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	result.Status = response.StatusCode
	return body, nil
}
