package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// wanted selects the jobs and pods to record, and the numbers of them after which the recording ends.
type wanted struct {
	prefix, phase string
	jobs, pods    int
}

// object is the part of a job or a pod that is recorded.
type object struct {
	Metadata struct {
		Name              string            `json:"name"`
		UID               string            `json:"uid"`
		ResourceVersion   string            `json:"resourceVersion"`
		CreationTimestamp string            `json:"creationTimestamp"`
		Labels            map[string]string `json:"labels,omitempty"`
	} `json:"metadata"`
	Spec struct {
		GroupName       string     `json:"groupName,omitempty"`
		SchedulingGates []struct{} `json:"schedulingGates,omitempty"`
	} `json:"spec"`
	Status struct {
		Phase string `json:"phase"`
	} `json:"status"`
}

type event struct {
	At     int64  `json:"at"`
	Kind   string `json:"kind"`
	Gone   bool   `json:"gone"`
	Object object `json:"object"`
}

type result struct {
	event event
	err   error
}

// watch records the changes of jobs and their pods until the wanted numbers are reached, or standard input ends. It
// prints "watching" to standard error when it has begun.
func watch(server *server, namespace string, wanted wanted) error {
	results := make(chan result, 1000)
	paths := map[string]string{
		"PhJob": "/apis/primehub.io/v1alpha1/namespaces/" + namespace + "/phjobs?",
		"Pod":   "/api/v1/namespaces/" + namespace + "/pods?labelSelector=primehub.io/group&",
	}
	for kind, path := range paths {
		revision, err := server.revision(path)
		if err != nil {
			return err
		}
		go func() { results <- result{err: server.record(kind, path, revision, results)} }()
	}
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	fmt.Fprintln(os.Stderr, "watching")

	out := newLines()
	jobs, pods := map[string]bool{}, map[string]bool{}
	for len(jobs) < wanted.jobs || len(pods) < wanted.pods {
		select {
		case <-ended:
			return out.buffer.Flush()
		case next := <-results:
			if next.err != nil {
				return next.err
			}
			item := next.event.Object
			if !strings.HasPrefix(item.Metadata.Name, wanted.prefix) || len(item.Spec.SchedulingGates) > 0 {
				continue // A gated pod cannot start. Its job may not be admitted yet.
			}
			if err := out.encoder.Encode(next.event); err != nil {
				return err
			}
			if next.event.Kind == "Pod" {
				pods[item.Metadata.Name] = true
			} else if item.Status.Phase == wanted.phase {
				jobs[item.Metadata.Name] = true
			}
		}
	}
	return out.buffer.Flush()
}

// revision returns the current revision of a collection.
func (s *server) revision(path string) (string, error) {
	listing, err := s.get(path + "limit=1")
	if err != nil {
		return "", err
	}
	defer listing.Close()
	var list struct {
		Metadata struct{ ResourceVersion string }
	}
	err = json.NewDecoder(listing).Decode(&list)
	return list.Metadata.ResourceVersion, err
}

// get returns the body of a successful answer.
func (s *server) get(path string) (io.ReadCloser, error) {
	request, err := http.NewRequest(http.MethodGet, s.url+path, nil)
	if err != nil {
		return nil, err
	}
	s.authorize(request)
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return nil, fmt.Errorf("%s: %s", response.Status, body)
	}
	return response.Body, nil
}

// record sends every change of a collection after the revision to results. The API server ends a watch that is too slow,
// which happens on a busy machine. record then starts a new one at the revision where the old one ended.
func (s *server) record(kind, path, revision string, results chan<- result) error {
	for {
		stream, err := s.get(path + "watch=true&resourceVersion=" + revision)
		if err != nil {
			return err
		}
		decoder := json.NewDecoder(stream)
		for {
			var change struct {
				Type   string
				Object object
			}
			if err := decoder.Decode(&change); err != nil {
				break
			}
			if change.Type == "ERROR" {
				return fmt.Errorf("the watch of %s has failed", kind)
			}
			revision = change.Object.Metadata.ResourceVersion
			results <- result{event: event{now(), kind, change.Type == "DELETED", change.Object}}
		}
		stream.Close()
	}
}
