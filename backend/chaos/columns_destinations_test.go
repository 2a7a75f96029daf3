package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// library is a KV engine of the cluster to which the roles' values are published, and
// the way there.
type library struct {
	proxy         *testenv.Proxy
	policy, token string
}

// The policy of who publishes, and where the KV engine is mounted.
const (
	publisher = "publisher"
	shelf     = "secret"
)

// nothing is a policy that permits nothing.
const nothing = `path "*" { capabilities = ["deny"] }`

// openLibrary makes the library, the first time.
func (l *lab) openLibrary(ctx context.Context) error {
	if l.library != nil {
		return nil
	}
	root, err := testenv.Root()
	if err != nil {
		return err
	}
	policy, err := os.ReadFile(filepath.Join(root, "bootstrap", "operate", "destinations", "vault-kv.hcl"))
	if err != nil {
		return err
	}
	active, err := l.cluster.Active(ctx)
	if err != nil {
		return err
	}
	made := &library{policy: string(policy)}
	if made.proxy, err = testenv.StartProxy(ctx, strings.TrimPrefix(active.Address, "http://")); err != nil {
		return err
	}
	l.library = made
	client, err := l.client(ctx)
	if err != nil {
		return err
	}
	if err := client.Sys().MountWithContext(ctx, shelf, &api.MountInput{Type: "kv", Options: map[string]string{"version": "2"}}); err != nil {
		return err
	}
	if err := l.permit(ctx, made.policy); err != nil {
		return err
	}
	token, err := client.Auth().Token().CreateWithContext(ctx, &api.TokenCreateRequest{Policies: []string{publisher}})
	if err != nil {
		return err
	}
	made.token = token.Auth.ClientToken
	return nil
}

// stop is safe on a nil library.
func (l *library) stop() error {
	if l == nil {
		return nil
	}
	return l.proxy.Stop()
}

// permit writes the policy of who publishes.
func (l *lab) permit(ctx context.Context, policy string) error {
	client, err := l.client(ctx)
	if err != nil {
		return err
	}
	return client.Sys().PutPolicyWithContext(ctx, publisher, policy)
}

// publish gives every role a destination, of which every other one is required, and
// waits until that has the values.
func publish(ctx context.Context, g *group) error {
	if err := g.openLibrary(ctx); err != nil {
		return fmt.Errorf("open the library: %w", err)
	}
	for i, c := range g.cells {
		c.required = i%2 == 1
	}
	g.each(func(c *cell) { c.harness = c.app.publish(ctx, c.required) })
	return g.untilEach(ctx, "the first copies", func(c *cell, _ *api.Client) error { return published(ctx, c) })
}

// publish gives the role a destination of its own.
func (a *app) publish(ctx context.Context, required bool) error {
	data := map[string]any{
		"type": "vault_kv", "address": "http://" + a.library.proxy.Address(), "token": a.library.token,
		"mount": shelf, "allowed_roles": a.id, "required": required,
	}
	var values []string
	for _, field := range publishedFields {
		values = append(values, fmt.Sprintf("smvm/{{role}}/%s={{%s_%s}}", field, a.id, field))
	}
	data["values"] = values
	_, err := a.write(ctx, "destinations/"+a.id, data)
	if err == nil {
		_, err = a.write(ctx, "roles/"+a.id, map[string]any{"destinations": a.id})
	}
	return err
}

// publishedFields are those of creds that are published, without the id.
var publishedFields = []string{"db_username", "db_password", "api_key"}

// unpublish takes the destinations away.
func unpublish(ctx context.Context, g *group) error {
	var err error
	for _, c := range g.cells {
		_, e := c.app.write(ctx, "roles/"+c.app.id, map[string]any{"destinations": ""})
		err = errors.Join(err, e)
	}
	return err
}

// published returns an error until the destination holds what readers get, and nothing
// is left to be done about that.
func published(ctx context.Context, c *cell) error {
	status, err := c.app.read(ctx, "status/"+c.app.id)
	if err != nil {
		return err
	}
	all, _ := status["destinations"].(map[string]any)
	about, _ := all[c.app.id].(map[string]any)
	if about["state"] != "in_sync" || status["following"] != nil {
		return fmt.Errorf("the copy is %v, what follows %v", about, status["following"])
	}
	creds, err := c.app.read(ctx, "creds/"+c.app.id)
	if err != nil {
		return err
	}
	client, err := c.app.client(ctx)
	if err != nil {
		return err
	}
	for _, field := range publishedFields {
		copied, err := client.KVv2(shelf).Get(ctx, "smvm/"+c.app.id+"/"+field)
		if err != nil {
			return err
		}
		if copied.Data["value"] != creds[c.app.id+"_"+field] {
			return fmt.Errorf("the copy of %s is another", field)
		}
	}
	return nil
}

// cutLibrary lets the operations go on while nobody can reach the library, and
// denyLibrary while it lets nobody in, until all have been answered.
func cutLibrary(_ context.Context, g *group) error {
	g.library.proxy.Cut()
	err := g.release()
	g.answered()
	return errors.Join(err, g.library.proxy.Heal())
}

func denyLibrary(ctx context.Context, g *group) error {
	err := errors.Join(g.permit(ctx, nothing), g.release())
	g.answered()
	return errors.Join(err, g.permit(ctx, g.library.policy))
}

// publishesLater tells whether a rotation has yet to publish what it makes. One that
// stood at its point for too long makes nothing.
func (c *cell) publishesLater() bool {
	r := c.row
	if r.op != opRotate && r.op != opPublish || c.unchanged() {
		return false
	}
	for _, later := range []string{".create.", ".look.", "-intent.", ".set.", "-fence.", ".test.", "-commit.", "publish.before"} {
		if strings.Contains(r.point, later) {
			return true
		}
	}
	return false
}

// held makes sure that what has yet to be published holds a rotation.
func held(c *cell) error {
	if c.publishesLater() && c.answer["status"] != "in_progress" {
		return errors.New("what could not be published did not hold it")
	}
	return nil
}

// denied makes sure that a rotation went back at once if its destination was required,
// and otherwise not.
func denied(c *cell) error {
	switch {
	case !c.publishesLater():
		return nil
	case c.required && !c.reversed():
		return errors.New("a required destination did not take it back")
	case !c.required && c.answer["status"] != "completed":
		return errors.New("a destination that is not required kept it from its end")
	}
	return nil
}
