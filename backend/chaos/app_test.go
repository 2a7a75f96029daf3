package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/hashicorp/vault/api"
	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// The strategies of a database.
const (
	single      = "single_user"
	alternating = "alternating_users"
)

// app is a role with a database, a JWT key and an API key, its users, and a
// connection of its own through a proxy of its own. Its id is the name of the
// role and of the connection, and what its users and secrets begin with.
type app struct {
	*lab
	id, strategy string
	proxy        *testenv.Proxy
	// rotation is the id of the latest one that was asked for beside the cells' operations.
	rotation string
	// readers counts those that were made for it, and presented its retired keys that
	// were presented.
	readers, presented int
}

// newApp makes one, rotated once, so that there is something to go back to.
func (l *lab) newApp(ctx context.Context, id, strategy string) (*app, error) {
	proxy, err := testenv.StartProxy(ctx, l.postgres.Address())
	if err != nil {
		return nil, err
	}
	a := &app{lab: l, id: id, strategy: strategy, proxy: proxy}
	if err := l.postgres.Exec(ctx, a.expand(appSQL)); err != nil {
		return nil, err
	}
	users := []string{id + "_a"}
	if strategy == alternating {
		users = append(users, id+"_b")
	}
	for _, w := range []struct {
		path string
		data map[string]any
	}{
		{"connections/" + id, map[string]any{
			"host": proxy.Host, "port": proxy.Port, "database": "postgres", "sslmode": "disable",
			"username": id + "_admin", "password": "first-" + id + "-0123456789", "allowed_roles": id,
		}},
		{"roles/" + id, map[string]any{"rotation_period": "24h", "retry_interval": 1}},
		{"secrets/" + id + "/" + id + "_db", map[string]any{
			"type": "database", "connection": id, "rotation_strategy": strategy, "usernames": users,
		}},
		{"secrets/" + id + "/" + id + "_jwt", map[string]any{"type": "jwt"}},
		{"secrets/" + id + "/" + id + "_api", map[string]any{"type": "api_key"}},
		{"rotate/" + id, map[string]any{"wait": 60}},
	} {
		if _, err := a.write(ctx, w.path, w.data); err != nil {
			return nil, fmt.Errorf("prepare %s: write %s: %w", id, w.path, err)
		}
	}
	return a, nil
}

// appSQL makes an administrator and the users it manages; $ stands for the id.
const appSQL = `
CREATE ROLE $_admin LOGIN CREATEROLE PASSWORD 'first-$-0123456789';
CREATE ROLE $_a LOGIN; CREATE ROLE $_b LOGIN;
DO $do$ BEGIN
  IF current_setting('server_version_num')::int >= 160000 THEN
    EXECUTE 'GRANT $_a, $_b TO $_admin WITH ADMIN TRUE, INHERIT FALSE, SET FALSE';
  END IF;
END $do$;`

// expand fills in the id.
func (a *app) expand(text string) string {
	return strings.NewReplacer("$do$", "$do$", "$", a.id).Replace(text)
}

func (a *app) write(ctx context.Context, path string, data map[string]any) (map[string]any, error) {
	client, err := a.client(ctx)
	if err != nil {
		return nil, err
	}
	secret, err := client.Logical().WriteWithContext(ctx, mountPath+"/"+path, data)
	if err != nil || secret == nil {
		return nil, err
	}
	return secret.Data, nil
}

func (a *app) read(ctx context.Context, path string, query ...string) (map[string]any, error) {
	client, err := a.client(ctx)
	if err != nil {
		return nil, err
	}
	return readWith(ctx, client, path, query...)
}

func readWith(ctx context.Context, client *api.Client, path string, query ...string) (map[string]any, error) {
	parameters := map[string][]string{}
	for i := 0; i+1 < len(query); i += 2 {
		parameters[query[i]] = []string{query[i+1]}
	}
	return answer(client.Logical().ReadWithDataWithContext(ctx, mountPath+"/"+path, parameters))
}

func answer(secret *api.Secret, err error) (map[string]any, error) {
	if err == nil && secret == nil {
		err = errors.New("the answer is empty")
	}
	if err != nil {
		return nil, err
	}
	return secret.Data, nil
}

// values is what a reader of the role is given at one time.
type values struct {
	version                                  int64
	login                                    login
	jwtKey, jwtPrevious, apiKey, apiPrevious string
	jwtKID, jwtPreviousKID                   string
}

type login struct{ username, password string }

// values reads the role.
func (a *app) values(ctx context.Context) (values, error) {
	data, err := a.read(ctx, "creds/"+a.id)
	if err != nil {
		return values{}, fmt.Errorf("read creds: %w", err)
	}
	return a.parse(data), nil
}

func (a *app) parse(data map[string]any) values {
	text := func(name string) string {
		s, _ := data[a.id+"_"+name].(string)
		return s
	}
	return values{
		version: number(data["version"]), login: login{text("db_username"), text("db_password")},
		jwtKey: text("jwt_secret"), jwtPrevious: text("jwt_previous_secret"),
		apiKey: text("api_key"), apiPrevious: text("api_previous_key"),
		jwtKID: text("jwt_kid"), jwtPreviousKID: text("jwt_previous_kid"),
	}
}

func number(v any) int64 {
	n, _ := v.(json.Number)
	i, _ := n.Int64()
	return i
}

// use logs in at PostgreSQL, not through the proxy.
func (a *app) use(ctx context.Context, l login) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, a.postgres.DSN(l.username, l.password, "postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing depends on it
	var one int
	return conn.QueryRow(ctx, "SELECT 1").Scan(&one)
}

// token is one that an application would have signed with these values.
func (v values) token() (string, error) {
	claims := jwt.MapClaims{"sub": "chaos", "exp": time.Now().Add(time.Hour).Unix()}
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
	token.Header["kid"] = v.jwtKID
	return token.SignedString([]byte(v.jwtKey))
}

// accepts verifies a token as an application with these values would.
func (v values) accepts(token string) error {
	var problems error
	for _, key := range []string{v.jwtKey, v.jwtPrevious} {
		if key == "" {
			continue
		}
		_, err := jwt.Parse(token, func(*jwt.Token) (any, error) { return []byte(key), nil }, jwt.WithValidMethods([]string{"HS256"}))
		if err == nil {
			return nil
		}
		problems = errors.Join(problems, err)
	}
	return errors.Join(errors.New("the token does not verify"), problems)
}
