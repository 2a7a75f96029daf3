package smvmcreds

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// Token is a token that somebody else keeps valid.
type Token string

// Token implements Auth.
func (t Token) Token(context.Context, *Vault) (string, error) { return string(t), nil }

// Refused implements Auth. There is no other token to get.
func (Token) Refused() {}

// TokenFile is the path of a file with a token, such as the file sink of a Vault
// Agent. It is read for every request.
type TokenFile string

// Token implements Auth.
func (path TokenFile) Token(context.Context, *Vault) (string, error) { return readFile(string(path)) }

// Refused implements Auth. The file is read again anyway.
func (TokenFile) Refused() {}

// AppRole logs in with the two files of Vault's AppRole method. It renews its
// token after two thirds of the token's life, and logs in again when that is not
// possible. Give each instance of a service an AppRole of its own: the engine takes those
// that share one for one reader. When Vault refuses the files, they are offered again
// after 16 minutes only, or as soon as they have changed: some more refused logins would
// lock the role_id out for all who use it.
type AppRole struct {
	// RoleIDFile and SecretIDFile are read at each login.
	RoleIDFile, SecretIDFile string
	// Mount is where the method is enabled; approle by default.
	Mount string

	mu      sync.Mutex
	token   string
	renew   time.Time // from then on the token is to be renewed
	ends    time.Time // from then on it is not valid
	refusal refusal
}

// refusal is a login that Vault refused, until when it is not to be offered again, and
// the error.
type refusal struct {
	body  []byte
	until time.Time
	err   error
}

// login is what Vault answers to a login and to a renewal.
type login struct {
	Auth struct {
		Token     string `json:"client_token"`
		Seconds   int    `json:"lease_duration"`
		Renewable bool   `json:"renewable"`
	} `json:"auth"`
}

// Token implements Auth.
func (a *AppRole) Token(ctx context.Context, v *Vault) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	switch {
	case a.token != "" && now.Before(a.renew):
		return a.token, nil
	case a.token != "" && now.Before(a.ends) && a.renewLocked(ctx, v) == nil:
		return a.token, nil
	}
	return a.token, a.loginLocked(ctx, v)
}

// Refused implements Auth: the next request logs in.
func (a *AppRole) Refused() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.token = ""
}

func (a *AppRole) renewLocked(ctx context.Context, v *Vault) error {
	var answer login
	if err := v.call(ctx, http.MethodPost, "auth/token/renew-self", a.token, nil, &answer); err != nil {
		return err
	}
	if err := a.keepLocked(answer); err != nil {
		return err
	}
	if !time.Now().Add(minTokenLife).Before(a.ends) {
		return errors.New("renew token: it is at the end of its life")
	}
	return nil
}

const (
	// minTokenLife is what a renewed token must still live to be worth keeping.
	minTokenLife = 5 * time.Second
	// maxTokenLife stands for ever, in seconds.
	maxTokenLife = 100 * 365 * 24 * 60 * 60
	// refusedPause is the pause after a refused login. Vault counts refused logins
	// for each role_id: 5 of them, each less than 15 minutes after the one before, lock
	// it out for 15 minutes, for all who use it. While it is locked out, logins are not
	// counted: lockedPause.
	refusedPause, lockedPause = 16 * time.Minute, time.Minute
)

func (a *AppRole) loginLocked(ctx context.Context, v *Vault) error {
	a.token = ""
	roleID, err := readFile(a.RoleIDFile)
	if err != nil {
		return err
	}
	secretID, err := readFile(a.SecretIDFile)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]string{"role_id": roleID, "secret_id": secretID})
	if err != nil {
		return fmt.Errorf("encode login: %w", err)
	}
	if bytes.Equal(a.refusal.body, body) && time.Now().Before(a.refusal.until) {
		return a.refusal.err
	}
	var answer login
	path := "auth/" + cmp.Or(a.Mount, "approle") + "/login"
	if err := v.call(ctx, http.MethodPost, path, "", bytes.NewReader(body), &answer); err != nil {
		return a.refusedLocked(body, err)
	}
	return a.keepLocked(answer)
}

// refusedLocked returns what a login that failed means. One that Vault refused is kept,
// so that it is not offered again soon.
func (a *AppRole) refusedLocked(body []byte, err error) error {
	var status *StatusError
	if !errors.As(err, &status) || len(status.Errors) == 0 {
		return err
	}
	var pause time.Duration
	switch status.Code {
	case http.StatusBadRequest:
		pause = refusedPause
		err = fmt.Errorf("%w; the secret_id in %s is wrong or has ended, or the role_id in %s is. Next try when a file has changed, or in 16 minutes: "+
			"after 5 wrong logins Vault locks the role_id out for all who use it", err, a.SecretIDFile, a.RoleIDFile)
	case http.StatusForbidden:
		pause = lockedPause
		err = fmt.Errorf("%w; too many wrong logins have locked the role_id of %s out for all who use it (`vault read sys/locked-users` tells), "+
			"or the namespace or the mount of the login is wrong. Next try in a minute", err, a.RoleIDFile)
	default:
		return err
	}
	a.refusal = refusal{body: body, until: time.Now().Add(pause), err: err}
	return err
}

// keepLocked takes over a token; one without an end is never renewed. An answer
// without a token is what a login gets that Vault wants more factors for.
func (a *AppRole) keepLocked(l login) error {
	if l.Auth.Token == "" || l.Auth.Seconds < 0 {
		return errors.New("the answer has no token that is valid; the login has to do without further factors")
	}
	life := time.Duration(min(l.Auth.Seconds, maxTokenLife)) * time.Second
	if life == 0 {
		life = maxTokenLife * time.Second
	}
	now := time.Now()
	a.token, a.renew, a.ends = l.Auth.Token, now.Add(life*2/3), now.Add(life)
	if !l.Auth.Renewable {
		a.renew = a.ends
	}
	return nil
}

func readFile(path string) (string, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the service's own configuration
	if err != nil {
		return "", fmt.Errorf("read token or login: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
