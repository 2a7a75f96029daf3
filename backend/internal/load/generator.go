package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// requestTimeout is when a client of the service gives up.
const requestTimeout = 15 * time.Second

// sample is one request. Its latency counts from the time it was due, so that a
// service that stalls is not measured less often.
type sample struct {
	at, latency time.Duration
	what        string // which request it was
	err         error
}

// generator sends requests at a steady rate to the instances that are healthy.
type generator struct {
	instances []*instance
	client    *http.Client
	began     time.Time
	next      atomic.Int64

	renewing sync.Mutex             // held while key or token change
	key      atomic.Pointer[string] // an API key that clients have
	token    atomic.Pointer[string]

	mu      sync.Mutex
	samples []sample
	flying  map[int]bool // the requests that are sent and not answered
	sending sync.WaitGroup
}

func newGenerator(instances []*instance) *generator {
	return &generator{
		instances: instances, began: time.Now(), flying: map[int]bool{},
		// A connection that is idle is closed here before uvicorn does, after five seconds:
		// as a load balancer has to, or a request may be on its way just then.
		client: &http.Client{Timeout: requestTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 200, IdleConnTimeout: 3 * time.Second}},
	}
}

// run sends requests until ctx ends, and returns when all were answered: those
// that were sent are not given up.
func (g *generator) run(ctx context.Context, rate int) {
	for _, i := range g.instances {
		g.sending.Go(func() { g.watchHealth(ctx, i) })
	}
	g.sending.Go(func() { g.renewToken(ctx) })
	interval := time.Second / time.Duration(rate)
	for n := 0; ctx.Err() == nil; n++ {
		due := g.began.Add(time.Duration(n) * interval)
		time.Sleep(time.Until(due))
		g.sending.Go(func() { g.measure(context.WithoutCancel(ctx), due, n) })
	}
	g.sending.Wait()
}

// measure sends the nth request: reads and writes in the database, with tokens
// and with API keys, and now and then a login for a new token.
func (g *generator) measure(ctx context.Context, due time.Time, n int) {
	g.mu.Lock()
	g.flying[n] = true
	g.mu.Unlock()
	method, path := []string{http.MethodGet, http.MethodPost}[n%2], "/api/test"
	header, value := "Authorization", "Bearer "+*g.token.Load()
	if n/2%2 == 0 {
		header, value = "X-API-Key", *g.key.Load()
	}
	if n%20 == 0 {
		method, path = http.MethodPost, "/api/token"
	}
	i, err := g.dispatch(ctx, method, path, header, value)
	s := sample{at: due.Sub(g.began), latency: time.Since(due), err: err}
	if err != nil {
		s.what = fmt.Sprintf("request %d, %s %s with %s, to %s", n, method, path, header, i.address)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.samples = append(g.samples, s)
	delete(g.flying, n)
}

// drain waits until all requests that were sent by now are answered. Who has sent an
// API key is answered before the next rotation but one makes it worthless, however
// slow the service is.
func (g *generator) drain(ctx context.Context) error {
	g.mu.Lock()
	sent := maps.Clone(g.flying)
	g.mu.Unlock()
	return eventually(ctx, "requests to be answered", func(context.Context) error {
		g.mu.Lock()
		defer g.mu.Unlock()
		for n := range sent {
			if g.flying[n] {
				return fmt.Errorf("request %d is not", n)
			}
		}
		return nil
	})
}

// dispatch sends a request as a load balancer does: one that could not be sent,
// because nobody listened, goes to another instance. It returns the last that it tried.
func (g *generator) dispatch(ctx context.Context, method, path, header, value string) (i *instance, err error) {
	for range g.instances {
		i = g.pick()
		_, err = g.send(ctx, i, method, path, header, value)
		var unsent *net.OpError
		if !errors.As(err, &unsent) || unsent.Op != "dial" {
			return i, err
		}
		i.healthy.Store(false)
	}
	return i, err
}

// pick returns the next instance that is healthy; the next one if none is.
func (g *generator) pick() (i *instance) {
	for range g.instances {
		i = g.instances[g.next.Add(1)%int64(len(g.instances))]
		if i.healthy.Load() {
			break
		}
	}
	return i
}

// send sends one request, and returns the answer if it is 200.
func (g *generator) send(ctx context.Context, i *instance, method, path, header, value string) (map[string]any, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+i.address+path, nil)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if header != "" {
		request.Header.Set(header, value)
	}
	response, err := g.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, errors.Unwrap(err)) // without the address
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	answer := map[string]any{}
	decoder := json.NewDecoder(response.Body)
	decoder.UseNumber()
	if err := decoder.Decode(&answer); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	if response.StatusCode != http.StatusOK {
		return answer, fmt.Errorf("%s %s answers %d: %v", method, path, response.StatusCode, answer["error"])
	}
	return answer, nil
}

// watchHealth is the load balancer's: what does not answer /health gets no more
// requests until it does.
func (g *generator) watchHealth(ctx context.Context, i *instance) {
	for ctx.Err() == nil {
		bounded, cancel := context.WithTimeout(ctx, time.Second)
		_, err := g.send(bounded, i, http.MethodGet, "/health", "", "")
		cancel()
		i.healthy.Store(err == nil)
		time.Sleep(100 * time.Millisecond)
	}
}

// follow gives the clients a new API key, and a token got with it.
func (g *generator) follow(ctx context.Context, key string) error {
	g.renewing.Lock()
	defer g.renewing.Unlock()
	g.key.Store(&key)
	return g.renewLocked(ctx)
}

func (g *generator) renewLocked(ctx context.Context) error {
	token, err := g.issue(ctx, g.pick(), *g.key.Load())
	if err != nil {
		return err
	}
	g.token.Store(&token)
	return nil
}

// issue gets a token from an instance.
func (g *generator) issue(ctx context.Context, i *instance, key string) (string, error) {
	answer, err := g.send(ctx, i, http.MethodPost, "/api/token", "X-API-Key", key)
	if err != nil {
		return "", fmt.Errorf("get token: %w", err)
	}
	token, ok := answer["token"].(string)
	if !ok {
		return "", errors.New("get token: there is none in the answer")
	}
	return token, nil
}

// sign waits until all instances sign with the current key, which is one refresh after
// they have read it: the next rotation ends the tokens of the key before.
func (g *generator) sign(ctx context.Context, c credentials) error {
	for _, i := range g.instances {
		err := eventually(ctx, "tokens of the new key of "+i.address, func(ctx context.Context) error {
			text, err := g.issue(ctx, i, c.key)
			if err != nil {
				return err
			}
			token, _, err := jwt.NewParser().ParseUnverified(text, jwt.MapClaims{})
			if err != nil {
				return fmt.Errorf("read token: %w", err)
			}
			if token.Header["kid"] != c.kid {
				return errors.New("it signs with another key")
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// renew gets a new token with the same key.
func (g *generator) renew(ctx context.Context) error {
	g.renewing.Lock()
	defer g.renewing.Unlock()
	return g.renewLocked(ctx)
}

// renewToken gets a new token now and then, from any of the instances.
func (g *generator) renewToken(ctx context.Context) {
	for ctx.Err() == nil {
		if err := g.renew(ctx); err != nil && ctx.Err() == nil {
			say("%s", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
	}
}
