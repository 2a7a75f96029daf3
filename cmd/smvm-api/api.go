package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/smvm/vault-plugin-secrets-smvm/bootstrap/apps/go/smvmcreds"
)

// requestTimeout bounds the work for one request.
const requestTimeout = 15 * time.Second

// versionHeader tells callers which version of the credentials served them.
const versionHeader = "X-Credentials-Version"

// schema is what the service works on. The lock is there because two instances
// that start together would both create it.
const schema = `SELECT pg_advisory_xact_lock(7381920);
CREATE TABLE IF NOT EXISTS smvm_api_requests (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at timestamptz NOT NULL DEFAULT now(),
	login text NOT NULL DEFAULT session_user
)`

// api is the service.
type api struct {
	source   *smvmcreds.Source
	pool     *pgxpool.Pool
	retry    bool
	metrics  *metrics
	stopping atomic.Bool
}

// newAPI connects to the database and makes sure that its table is there.
func newAPI(ctx context.Context, source *smvmcreds.Source, s settings) (*api, error) {
	pool, err := newPool(ctx, source, s.database)
	if err != nil {
		return nil, err
	}
	a := &api{source: source, pool: pool, retry: s.retry, metrics: newMetrics(source)}
	if err := source.Retry(ctx, a.prepare); err != nil {
		pool.Close()
		return nil, fmt.Errorf("prepare database: %w", err)
	}
	return a, nil
}

// newPool goes where the credentials say, or with a URL to another server, such as
// a PgBouncer.
func newPool(ctx context.Context, source *smvmcreds.Source, url string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read URL of the database: %w", err)
	}
	if url == "" {
		return source.NewPool(ctx, config, secretDatabase)
	}
	return source.NewPoolAt(ctx, config, secretDatabase)
}

func (a *api) prepare(ctx context.Context) error {
	_, err := a.pool.Exec(ctx, schema)
	return err
}

// routes are what the service answers.
func (a *api) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", a.health)
	mux.Handle("GET /metrics", a.metrics.handler())
	mux.Handle("POST /api/token", a.protect(a.apiKey, a.issueToken))
	mux.Handle("GET /api/test", a.protect(a.tokenOrKey, a.readTest))
	mux.Handle("POST /api/test", a.protect(a.tokenOrKey, a.writeTest))
	return a.metrics.count(mux)
}

// health reports whether the database answers, and which credentials are in use.
// A stopping service says 503 while it still serves.
func (a *api) health(w http.ResponseWriter, r *http.Request) {
	c := a.source.Current()
	answer := map[string]any{
		"status": "ok", "version": c.Version,
		"database_user": c.Value(secretDatabase, "username"), "failed_reads": a.source.Failing(),
	}
	code := http.StatusOK
	switch err := a.work(r.Context(), a.pool.Ping); {
	case err != nil:
		slog.WarnContext(r.Context(), "health: ping database", "error", err)
		answer["status"], code = "the database does not answer", http.StatusServiceUnavailable
	case a.stopping.Load():
		answer["status"], code = "stopping", http.StatusServiceUnavailable
	}
	a.answer(w, code, answer)
}

// result is what /api/test answers: the newest row, and who asked the database.
type result struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
}

// readTest reads which row is the newest.
func (a *api) readTest(w http.ResponseWriter, r *http.Request) {
	a.query(w, r, `SELECT coalesce(max(id), 0), session_user FROM smvm_api_requests`)
}

// writeTest writes a row.
func (a *api) writeTest(w http.ResponseWriter, r *http.Request) {
	a.query(w, r, `INSERT INTO smvm_api_requests DEFAULT VALUES RETURNING id, login`)
}

// work does something in the database.
func (a *api) work(ctx context.Context, f func(context.Context) error) error {
	if !a.retry {
		return f(ctx)
	}
	return a.source.Retry(ctx, f)
}

func (a *api) query(w http.ResponseWriter, r *http.Request, sql string) {
	var found result
	err := a.work(r.Context(), func(ctx context.Context) error {
		return a.pool.QueryRow(ctx, sql).Scan(&found.ID, &found.Login)
	})
	if err != nil {
		slog.ErrorContext(r.Context(), "query database", "error", err)
		a.answer(w, http.StatusInternalServerError, map[string]any{"error": "the database did not answer"})
		return
	}
	a.answer(w, http.StatusOK, found)
}

func (a *api) answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set(versionHeader, strconv.Itoa(a.source.Current().Version))
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}
