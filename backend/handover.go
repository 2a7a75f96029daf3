package backend

import (
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/helper/wrapping"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// wrapTTL is how long an answer that shows a key can be unwrapped; a client that
// asks for less gets less.
const wrapTTL = time.Hour

// show adds to an answer the values that are not kept, under the names that creds
// would have for them. Such an answer is always wrapped, so that it is not left in
// the scrollback or the log of whoever asked, and can be passed on unread.
func show(run *rotation.Run, resp *logical.Response) *logical.Response {
	for name, v := range run.Shown() {
		for field, value := range v {
			resp.Data[name+"_"+field] = value
		}
		resp.WrapInfo = &wrapping.ResponseWrapInfo{TTL: wrapTTL}
	}
	return resp
}

// notShown warns of values that an earlier delivery of the request was given.
func notShown(r *rotation.Role, run *rotation.Run, rec rotation.Record, resp *logical.Response) *logical.Response {
	if rec.Kind == rotation.KindImport || rec.Kind == rotation.KindRollback || run.Shown() != nil {
		return resp
	}
	for _, name := range shownOnce(r.Snapshot(), rec.Secrets) {
		resp.AddWarning(fmt.Sprintf("secret %s: the new key was given to an earlier delivery of this request, and is not kept; if it was lost on the way, write rotate/%s with secrets=%s, or rollback/%s", name, r.Name, name, r.Name))
	}
	return resp
}

// shownOnce lists those of the named secrets whose values are not kept; of all, if
// none is named.
func shownOnce(s *rotation.Snapshot, names []string) []string {
	if len(names) == 0 {
		names = s.Names()
	}
	var found []string
	for _, name := range names {
		if secret := s.Secrets[name]; secret != nil && secret.ShownOnce {
			found = append(found, name)
		}
	}
	return found
}

// checkReceiver refuses a rotation that would make values for nobody.
func checkReceiver(r *rotation.Role, names []string, wait time.Duration) error {
	if hidden := shownOnce(r.Snapshot(), names); wait == 0 && len(hidden) > 0 {
		return rotation.Invalid("wait", "is 0, so that nobody would be given the new key of %s, which is not kept (hash_only); wait, or leave it out of secrets", roles.Sample(hidden))
	}
	return nil
}
