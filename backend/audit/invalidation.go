package audit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Invalidation answers the procedure's "old secrets are invalidated" for one secret of a
// retirement: who refuses the value that was retired, or why that is not shown.
func Invalidation(rec rotation.Record, r rotation.SecretResult) string {
	_, text := invalidation(rec, r)
	return text
}

// invalidation is Invalidation with its verdict. What the engine shows by itself and what
// an application has shown are kept apart.
func invalidation(rec rotation.Record, r rotation.SecretResult) (verdict, string) {
	v, text := shownByEngine(r)
	answers, asked := []string{text}, false
	for _, task := range rec.Tasks {
		if !slices.Contains(task.Secrets, r.Secret) {
			continue
		}
		asked = true
		check := strings.Replace(task.Name, "/", " ", 1) + ", " + task.Detail
		switch task.Finding {
		case rotation.FoundRefused:
			answers = append(answers, "refused by the application ("+check+")")
		case rotation.FoundAccepted:
			v, answers = failed, append(answers, "ACCEPTED by the application ("+check+")")
		default:
			v, answers = v.worse(unproven), append(answers, "not shown for the application ("+check+")")
		}
	}
	if !asked && isKey(r.Type) {
		answers = append(answers, "not shown for the application: no check with phase=retire asked it")
	}
	return v, strings.Join(answers, "; ")
}

// isKey reports whether values of a type are verified by the engine, and by applications.
func isKey(secretType string) bool { return secretType == "api_key" || secretType == "jwt" }

// shownByEngine is what a retirement shows by itself.
func shownByEngine(r rotation.SecretResult) (verdict, string) {
	for _, step := range r.Steps {
		if !step.OK {
			return failed, "not shown: the retirement failed, and the engine tries again"
		}
		if step.Unproven != "" {
			return unproven, "not shown: the refusal is " + step.Unproven
		}
	}
	switch {
	case isKey(r.Type):
		return passed, "refused by the engine's verify"
	case r.Type == "database" || r.Type == "connection":
		return passed, "refused by the database"
	case r.Type == "random":
		return unproven, "not shown: the engine has destroyed the value, but values of type random are verified neither by the engine nor by a check"
	}
	return passed, "made unusable by the engine"
}

// retired reports whether a record says that the previous value of a secret is no more,
// which it may be although the retirement of another one failed.
func retired(rec rotation.Record, secret string) bool {
	return slices.ContainsFunc(rec.Results, func(r rotation.SecretResult) bool {
		return r.Secret == secret && len(r.Steps) > 0 && !slices.ContainsFunc(r.Steps, func(s rotation.Step) bool { return !s.OK })
	})
}

// outlook says until when the replaced value of a secret is valid, and what follows then,
// by the state of now.
func outlook(s *rotation.State, replaced rotation.SecretResult) string {
	const again = "read this record again after that to see whether it is refused"
	secret := s.Secrets[replaced.Secret]
	if secret == nil || secret.Previous == nil || secret.Previous.Version != replaced.From {
		return "valid until the overlap ends; " + again
	}
	previous := secret.Previous
	if previous.DestroyTime.After(previous.RetireTime) {
		return fmt.Sprintf("its overlap has ended, and the engine asks the application at %v; %s", timeText(previous.DestroyTime), again)
	}
	return fmt.Sprintf("valid until the overlap ends at %v; %s", timeText(previous.RetireTime), again)
}
