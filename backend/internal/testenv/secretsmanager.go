package testenv

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// SecretsManager stands in for AWS Secrets Manager, which can't be had here: it
// speaks the JSON protocol of the SDK and keeps to what AWS documents of the
// actions that are used: ids of versions from ClientRequestToken, which name one
// value for ever; labels, each of which one version has at most, and AWSPREVIOUS
// where AWSCURRENT was; tags; deletion by schedule. It checks no signature.
type SecretsManager struct {
	*httptest.Server
	mu      sync.Mutex
	secrets map[string]*managed
	refuses string
}

// managed is one secret.
type managed struct {
	tags     map[string]string
	versions map[string]*managedVersion
	deleted  float64 // when it is scheduled to be, in seconds since 1970
}

type managedVersion struct {
	value  string
	stages []string
}

// action is the body of any request.
type action struct {
	Name, SecretID, SecretString, ClientRequestToken   string
	VersionStage, MoveToVersionID, RemoveFromVersionID string
	VersionStages                                      []string
	Tags                                               []struct{ Key, Value string }
}

// NewSecretsManager starts one, until the test and its subtests are done.
func NewSecretsManager(t testing.TB) *SecretsManager {
	t.Helper()
	m := &SecretsManager{secrets: map[string]*managed{}}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var a action
		if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
			t.Errorf("%s: %v", r.Header.Get("X-Amz-Target"), err)
		}
		answer, refusal := m.do(strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "secretsmanager."), a)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		if refusal != "" {
			w.WriteHeader(http.StatusBadRequest)
			answer = map[string]any{"__type": refusal, "Message": "refused: " + a.SecretString}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(m.Close)
	return m
}

// Refuse makes every action that changes something fail with an error of that name,
// until it is called with none.
func (m *SecretsManager) Refuse(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refuses = name
}

// Value is the current one of a secret; "" if there is none.
func (m *SecretsManager) Value(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.secrets[name]; s != nil && s.at(current) != "" {
		return s.versions[s.at(current)].value
	}
	return ""
}

// Set is somebody who sets a value by hand, over what there is.
func (m *SecretsManager) Set(name, value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.secrets[name]
	if s == nil {
		s = &managed{tags: map[string]string{}, versions: map[string]*managedVersion{}}
		m.secrets[name] = s
	}
	_, _ = s.put(action{ClientRequestToken: fmt.Sprintf("by-hand-%032d", len(s.versions)), SecretString: value})
}

// current is the label of the version that readers get.
const current = "AWSCURRENT"

func (m *SecretsManager) do(name string, a action) (answer map[string]any, refusal string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.secrets[a.Name+a.SecretID]
	if token := a.ClientRequestToken; token != "" && (len(token) < 32 || len(token) > 64) {
		return nil, "InvalidParameterException"
	}
	switch {
	case m.refuses != "" && name != "DescribeSecret" && name != "GetSecretValue":
		return nil, m.refuses
	case name == "CreateSecret":
		return m.create(s, a)
	case s == nil:
		return nil, "ResourceNotFoundException"
	case name == "DescribeSecret":
		return s.describe(), ""
	case s.deleted > 0:
		return nil, "InvalidRequestException"
	}
	switch name {
	case "TagResource":
		s.tag(a)
		return map[string]any{}, ""
	case "PutSecretValue":
		return s.put(a)
	case "UpdateSecretVersionStage":
		return s.move(a)
	case "GetSecretValue":
		return s.get(a)
	case "ListSecretVersionIds":
		return s.list(), ""
	case "DeleteSecret":
		s.deleted = float64(time.Now().Unix())
		return map[string]any{}, ""
	}
	return nil, "InvalidParameterException"
}

func (m *SecretsManager) create(s *managed, a action) (map[string]any, string) {
	if s != nil {
		if v := s.versions[a.ClientRequestToken]; v == nil || v.value != a.SecretString {
			return nil, "ResourceExistsException"
		}
		return map[string]any{"Name": a.Name, "VersionId": a.ClientRequestToken}, ""
	}
	s = &managed{tags: map[string]string{}, versions: map[string]*managedVersion{}}
	m.secrets[a.Name] = s
	s.tag(a)
	return s.put(a)
}

func (s *managed) tag(a action) {
	for _, tag := range a.Tags {
		s.tags[tag.Key] = tag.Value
	}
}

// put adds a version. The same again changes nothing; another value under an id
// that is taken is refused.
func (s *managed) put(a action) (map[string]any, string) {
	answer := map[string]any{"VersionId": a.ClientRequestToken}
	if v := s.versions[a.ClientRequestToken]; v != nil {
		if v.value != a.SecretString {
			return nil, "ResourceExistsException"
		}
		return answer, ""
	}
	s.versions[a.ClientRequestToken] = &managedVersion{value: a.SecretString}
	if len(a.VersionStages) == 0 || len(s.versions) == 1 {
		a.VersionStages = append(a.VersionStages, current)
	}
	for _, stage := range a.VersionStages {
		s.give(stage, a.ClientRequestToken)
	}
	return answer, ""
}

// at is the version that has a label; "" if none has.
func (s *managed) at(stage string) string {
	for id, v := range s.versions {
		if slices.Contains(v.stages, stage) {
			return id
		}
	}
	return ""
}

// give moves a label, and AWSPREVIOUS to where AWSCURRENT was.
func (s *managed) give(stage, id string) {
	before := s.at(stage)
	if before == id {
		return
	}
	if before != "" {
		s.versions[before].stages = slices.DeleteFunc(s.versions[before].stages, func(has string) bool { return has == stage })
		if stage == current {
			s.give("AWSPREVIOUS", before)
		}
	}
	s.versions[id].stages = append(s.versions[id].stages, stage)
}

func (s *managed) move(a action) (map[string]any, string) {
	if s.at(a.VersionStage) != a.RemoveFromVersionID || s.versions[a.MoveToVersionID] == nil {
		return nil, "InvalidParameterException"
	}
	s.give(a.VersionStage, a.MoveToVersionID)
	return map[string]any{}, ""
}

func (s *managed) get(a action) (map[string]any, string) {
	id := s.at(a.VersionStage)
	if id == "" {
		return nil, "ResourceNotFoundException"
	}
	return map[string]any{"VersionId": id, "SecretString": s.versions[id].value}, ""
}

func (s *managed) describe() map[string]any {
	stages, tags := map[string][]string{}, []map[string]string{}
	for id, v := range s.versions {
		if len(v.stages) > 0 {
			stages[id] = v.stages
		}
	}
	for key, value := range s.tags {
		tags = append(tags, map[string]string{"Key": key, "Value": value})
	}
	answer := map[string]any{"VersionIdsToStages": stages, "Tags": tags}
	if s.deleted > 0 {
		answer["DeletedDate"] = s.deleted
	}
	return answer
}

func (s *managed) list() map[string]any {
	var all []map[string]any
	for id := range s.versions {
		all = append(all, map[string]any{"VersionId": id})
	}
	return map[string]any{"Versions": all}
}
