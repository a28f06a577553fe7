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

// longestLine is that of one request: a transaction of etcd's with a hundred objects.
const longestLine = 16 << 20

type request struct {
	Key    string          `json:"key"`
	Method string          `json:"method"`
	Path   string          `json:"path"`
	Type   string          `json:"type"`
	Body   json.RawMessage `json:"body"`
}

type answer struct {
	Key      string `json:"key"`
	Status   int    `json:"status"` // 0: there was none.
	Sent     int64  `json:"sent"`
	Answered int64  `json:"answered"`
	UID      string `json:"uid,omitempty"`
	Version  string `json:"version,omitempty"`
	Said     string `json:"said,omitempty"` // Of an answer that is no success.
}

// send makes each request of standard input, in order, so many at a time; its answers in the order of coming.
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

// read hands the requests out; with a rate, each when it is due.
func read(requests chan<- request, rate float64) error {
	scanner := bufio.NewScanner(os.Stdin)
	scanner.Buffer(make([]byte, 1<<20), longestLine)
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

func (s *server) do(made request) answer {
	result := answer{Key: made.Key, Sent: now()}
	said, err := s.call(made, &result)
	result.Answered = now()
	if err != nil {
		result.Said = err.Error()
		return result
	}
	if result.Status >= 300 {
		result.Said = string(said)
		return result
	}
	var object struct {
		Metadata struct{ UID, ResourceVersion string }
	}
	if json.Unmarshal(said, &object) == nil {
		result.UID, result.Version = object.Metadata.UID, object.Metadata.ResourceVersion
	}
	return result
}

func (s *server) call(made request, result *answer) ([]byte, error) {
	call, err := http.NewRequest(made.Method, s.url+made.Path, bytes.NewReader(made.Body))
	if err != nil {
		return nil, err
	}
	s.authorize(call)
	call.Header.Set("Content-Type", made.Type)
	response, err := s.client.Do(call)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	result.Status = response.StatusCode
	return said, nil
}
