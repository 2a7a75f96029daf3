package backend

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/audit"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/usage"
)

func (b *backend) pathStatus() *framework.Path {
	return &framework.Path{
		Pattern:      optionalRole("status"),
		DisplayAttrs: attributes("read", "default-role-status|role-status"),
		Fields:       map[string]*framework.FieldSchema{"role": field(framework.TypeString, "Name of the role; default if you leave it out of the path.")},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: operation(b.pathStatusRead, "Read the status of a role, without its values.", statusFields()),
		},
		HelpSynopsis:    "Read the status of a role.",
		HelpDescription: oneLine(statusHelp),
	}
}

// pathStatusRead corresponds to READ on status and status/:role.
func (b *backend) pathStatusRead(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	if b.standby.Load() {
		return nil, logical.ErrReadOnly // only the active node knows of operations, uses and readers
	}
	r, err := b.findRole(ctx, roleName(d))
	if err != nil {
		return nil, err
	}
	data := b.rotationStatus(r)
	data["role"] = r.Name
	data["secrets"] = b.stages(r)
	data["overlap"] = b.usage.Summary(r)
	readers := b.usage.Readers(r)
	data["readers"] = b.describeReaders(readers)
	data["following"] = following(r.Snapshot())
	data["refusals"] = refusals(r.Snapshot())
	if data["destinations"], err = b.copies(ctx, r); err != nil {
		return nil, err
	}
	data["report"] = statusReport(r, r.Snapshot(), readers, data)
	return &logical.Response{Data: data}, nil
}

// copies tells how what destinations have of a role is.
func (b *backend) copies(ctx context.Context, r *rotation.Role) (map[string]any, error) {
	known, err := b.destinations.Status(ctx, r)
	all := map[string]any{}
	for name, c := range known {
		all[name] = map[string]any{"state": c.State, "version": c.Version, "since": timestamp(c.Since), "last_error": c.Error}
	}
	return all, err
}

// rotationStatus tells how a role or a connection is doing.
func (b *backend) rotationStatus(r *rotation.Role) map[string]any {
	s, now := r.Snapshot(), b.now()
	data := map[string]any{
		"version":             s.Version,
		"last_vault_rotation": timestamp(s.LastRotation),
		"next_vault_rotation": nil,
		"overdue":             s.Overdue(now),
		"failures":            s.Failures,
		"last_error":          s.LastError,
		"retry_time":          timestamp(s.RetryAt),
		"needs_attention":     s.NeedsAttention,
		"advice":              advice(r, s),
		"in_flight":           inFlight(r, s),
		"unresolved":          unresolved(s),
	}
	if data["advice"] == "" {
		data["advice"] = unreceivedAdvice(r, s)
	}
	if data["advice"] == "" {
		data["advice"] = b.drift.Advice(r)
	}
	if data["advice"] == "" && !roles.IsConnection(r) {
		data["advice"] = b.connections.LegacyAdvice(b.engine.Context, r)
	}
	if data["advice"] == "" {
		data["advice"] = acceptedAdvice(s)
	}
	if data["advice"] == "" {
		data["advice"] = cmp.Or(needed(r, now), waits(r, now))
	}
	if s.RotatesItself() {
		data["next_vault_rotation"] = timestamp(s.Planned())
	}
	return data
}

// advice names the command for a role that needs a person.
func advice(r *rotation.Role, s *rotation.Snapshot) string {
	again := "rotate/" + r.Name
	if roles.IsConnection(r) {
		again = "rotate-root/" + r.Name
	}
	left := unresolvedAdvice(r, s)
	switch {
	case s.NeedsAttention:
		return fmt.Sprintf("automatic rotation has stopped after %d failures; fix the cause in last_error, then write %s", s.FailedRotations(), again)
	case s.InFlight != nil && !r.Busy() && roles.IsConnection(r):
		return fmt.Sprintf("a rotation was interrupted. The engine tries to finish it at retry_time; to try now, write %s. If somebody changed the password by hand, write the right one to connections/%s", again, r.Name)
	case left != "":
		return left
	case s.InFlight != nil && !r.Busy():
		return fmt.Sprintf("an operation was interrupted. The engine tries to finish it at retry_time; to try now, write %s", again)
	}
	return clockAdvice(s)
}

// unreceivedAdvice tells of keys that are current and that nobody was given; "" if there
// are none.
func unreceivedAdvice(r *rotation.Role, s *rotation.Snapshot) string {
	var lost []string
	for _, name := range s.Names() {
		if secret := s.Secrets[name]; !r.Busy() && secret.Current != nil && secret.Current.Unreceived {
			lost = append(lost, unreceived(r, secret))
		}
	}
	return strings.Join(lost, "; ")
}

// clockAdvice tells of stored times that were too late; "" if none were.
func clockAdvice(s *rotation.Snapshot) string {
	if s.Rewound == nil {
		return ""
	}
	return s.Rewound.String() + ". Make sure that the clocks of all Vault nodes are right (NTP), and that applications have read again. The next rotation ends this advice"
}

// needed tells for whom the overlaps of a role go on, and how to end that; "" if none does.
func needed(r *rotation.Role, now time.Time) string {
	going := r.Snapshot().Waits(now)
	if len(going) == 0 {
		return ""
	}
	return fmt.Sprintf("the overlap goes on, because somebody still needs previous values: %s. Have applications read creds/%s again, or restart those that do not; to end the overlap now, write retire/%s with force=true, which cuts them off", rotation.WaitsText(going), r.Name, r.Name)
}

// waits tells until when the next automatic rotation of a role waits for the running
// overlap to end, and how to end that; "" if it does not.
func waits(r *rotation.Role, now time.Time) string {
	until := r.Snapshot().WaitsUntil(now)
	if until.IsZero() {
		return ""
	}
	return fmt.Sprintf("the next rotation waits until %s, when the overlap of the previous values ends; to rotate now, write rotate/%s, which ends that overlap: applications that still use the previous values are refused until they read again", timestamp(until), r.Name)
}

// unresolved tells about the secrets whose target may hold another value than the
// current one, null if there are none.
func unresolved(s *rotation.Snapshot) any {
	left := map[string]any{}
	for _, name := range s.Unresolved() {
		u := s.Secrets[name].Unresolved
		left[name] = map[string]any{
			"since": timestamp(u.Since), "cause": u.Cause, "attempts": u.Attempts, "retry_time": timestamp(u.RetryAt),
		}
	}
	if len(left) == 0 {
		return nil
	}
	return left
}

// unresolvedAdvice names the command for a role of which a secret is unresolved; "" if
// none is.
func unresolvedAdvice(r *rotation.Role, s *rotation.Snapshot) string {
	var left []string
	for _, name := range s.Unresolved() {
		u := s.Secrets[name].Unresolved
		left = append(left, fmt.Sprintf("secret %s since %s (%s)", name, timestamp(u.Since), u.Cause))
	}
	if len(left) == 0 {
		return ""
	}
	again := "verify/" + r.Name + " with repair=true"
	if roles.IsConnection(r) {
		again = "rotate-root/" + r.Name
	}
	return fmt.Sprintf("it is not known whether the target holds the current value or the new one: %s. The engine tries again every half minute or sooner, until the cause is gone; to try now, write %s. All other secrets work as before", strings.Join(left, "; "), again)
}

// inFlight tells about the operation under way, null if there is none.
func inFlight(r *rotation.Role, s *rotation.Snapshot) any {
	run, op := r.Running(), s.InFlight
	if run == nil && op == nil {
		return nil
	}
	if run != nil {
		current := run.Operation()
		op = &current
	}
	data := map[string]any{
		"rotation_id": op.ID, "kind": string(op.Kind), "trigger": string(op.Trigger),
		"started": timestamp(op.Started), "secrets": op.Secrets, "interrupted": run == nil,
	}
	if run != nil {
		if p := run.Progress(); p != nil {
			data["secret"], data["step"] = p.Secret, p.Step
		}
	}
	return data
}

// following tells what is left to be done after the latest commit, null if
// nothing is.
func following(s *rotation.Snapshot) any {
	if s.PostCommit == nil {
		return nil
	}
	tasks := map[string]any{}
	for _, t := range s.PostCommit.Tasks {
		tasks[t.Name] = map[string]any{
			"done": t.Done, "failed": t.Failed, "dropped": t.Dropped, "required": t.Required, "detail": t.Detail, "next": timestamp(t.Next),
		}
	}
	return map[string]any{"rotation_id": s.PostCommit.ID, "tasks": tasks}
}

// refusals tells, by check, what applications answered that were asked to refuse retired
// values, null if none was since the last rotation.
func refusals(s *rotation.Snapshot) any {
	answers := map[string]any{}
	for _, a := range s.Asked {
		answers[a.Name] = map[string]any{
			"outcome": string(a.Finding), "secrets": a.Secrets, "detail": a.Detail, "rotation_id": a.ID, "time": timestamp(a.At),
		}
	}
	if len(answers) == 0 {
		return nil
	}
	return answers
}

// acceptedAdvice tells of applications that accept retired values; "" if none is known.
func acceptedAdvice(s *rotation.Snapshot) string {
	var found []string
	for _, a := range s.Asked {
		if a.Finding == rotation.FoundAccepted {
			found = append(found, fmt.Sprintf("secret %s (%s: %s, at %v)", strings.Join(a.Secrets, ", "), a.Name, a.Detail, timestamp(a.At)))
		}
	}
	if len(found) == 0 {
		return ""
	}
	return fmt.Sprintf("an application accepted a retired value: %s. Find out where the application keeps it, remove it there, and rotate: the end of the overlap then shows whether the application refuses it. The next rotation ends this advice", strings.Join(found, "; "))
}

// stages tells which values each secret has, without showing them.
func (b *backend) stages(r *rotation.Role) map[string]any {
	secrets := map[string]any{}
	for name, one := range r.Snapshot().Secrets {
		stages := map[string]any{"type": one.Type}
		if one.ShownOnce {
			stages["by_request_only"] = true
		}
		if one.Current != nil {
			stages[secret.StageCurrent] = b.currentStage(r, one)
		}
		if one.Previous != nil {
			stages[secret.StagePrevious] = b.previousStage(r, one)
		}
		if v := one.Next; v != nil {
			stages["next"] = map[string]any{"created": timestamp(v.Created), "published": timestamp(cmp.Or(v.Published, v.Created))}
		}
		if one.Pending != nil {
			stages["pending"] = map[string]any{"created": timestamp(one.Pending.Created)}
		}
		secrets[name] = stages
	}
	return secrets
}

func (b *backend) currentStage(r *rotation.Role, s *rotation.Secret) map[string]any {
	stage := map[string]any{"version": s.Current.Version, "created": timestamp(s.Current.Created)}
	b.addUses(stage, r, s, secret.StageCurrent)
	return stage
}

func (b *backend) previousStage(r *rotation.Role, s *rotation.Secret) map[string]any {
	v := s.Previous
	stage := map[string]any{
		"version": v.Version, "created": timestamp(v.Created), "retire_time": timestamp(v.RetireTime),
		"valid": s.PreviousAt(b.now()) != nil && b.types[s.Type].OffersPrevious(*s),
	}
	if v.DrainUntil.After(s.CutOver()) {
		stage["drain_until"], stage["waits_for"] = timestamp(v.DrainUntil), v.WaitsFor
	}
	if v.Prolonged.By > 0 {
		stage["prolonged_by"] = int(v.Prolonged.By.Seconds())
	}
	if v.DestroyTime.After(v.RetireTime) {
		stage["destroy_time"] = timestamp(v.DestroyTime)
	}
	b.addUses(stage, r, s, secret.StagePrevious)
	if sessions, ok := b.usage.Sessions(r, s); ok {
		addSessions(stage, sessions)
	}
	return stage
}

// addUses adds to a stage what is known about its use.
func (b *backend) addUses(stage map[string]any, r *rotation.Role, s *rotation.Secret, name string) {
	if uses, ok := b.usage.Uses(r, s, name); ok {
		stage["uses"], stage["last_used"], stage["counted_since"] = uses.Count, timestamp(uses.Last), timestamp(uses.Since)
	}
}

// addSessions adds to a previous stage what is known about its sessions.
func addSessions(stage map[string]any, seen usage.Sessions) {
	stage["last_used"], stage["counted_since"], stage["looked_at"] = timestamp(seen.LastSeen), timestamp(seen.Since), timestamp(seen.At)
	stage["sessions"] = nil
	if !seen.At.IsZero() {
		stage["sessions"] = seen.Count
	}
	if !seen.Newest.IsZero() {
		stage["newest_session"] = timestamp(seen.Newest)
	}
	if seen.Err != nil {
		stage["look_error"] = seen.Err.Error()
	}
}

// maxLate is how many readers that are late status names: of each it asks Vault who it is.
const maxLate = 50

// describeReaders tells how many readers have the current values, and who is late.
func (b *backend) describeReaders(readers usage.Readers) map[string]any {
	late := []map[string]any{}
	for _, one := range readers.Late[:min(len(readers.Late), maxLate)] {
		entity, aliases := b.identity(one.EntityID)
		late = append(late, map[string]any{
			"name": one.Name, "entity_id": one.EntityID, "entity": entity, "aliases": aliases, "address": one.Address,
			"version": one.Version, "first_read": timestamp(one.FirstRead), "last_read": timestamp(one.LastRead), "late_since": timestamp(one.Since),
		})
	}
	return map[string]any{"known": readers.Known, "current": readers.Current, "late_count": len(readers.Late), "late": late}
}

// identity returns the name of an entity, and by which names it logs in; nothing if it is
// gone, or can't be asked for.
func (b *backend) identity(id string) (name string, aliases []string) {
	aliases = []string{}
	if id == "" {
		return "", aliases
	}
	entity, err := b.System().EntityInfo(id)
	if err != nil || entity == nil {
		return "", aliases
	}
	for _, alias := range entity.Aliases {
		aliases = append(aliases, audit.Visible(fmt.Sprintf("%s (%s)", alias.Name, alias.MountType)))
	}
	return audit.Visible(entity.Name), aliases
}

// entityName returns the name of an entity, "" if it is gone, or can't be asked for.
func (b *backend) entityName(id string) string {
	name, _ := b.identity(id)
	return name
}

// countReaders counts for metrics; ok is false where there is nothing to count, or where
// only the active node knows.
func (b *backend) countReaders(r *rotation.Role) (current, late int, ok bool) {
	if roles.IsConnection(r) || b.standby.Load() {
		return 0, 0, false
	}
	readers := b.usage.Readers(r)
	return readers.Current, len(readers.Late), true
}

// rotationStatusFields declares what rotationStatus answers.
func rotationStatusFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"version":             field(framework.TypeInt, "Current version. Every commit increases it."),
		"last_vault_rotation": field(framework.TypeString, "When the current version was committed."),
		"next_vault_rotation": field(framework.TypeString, "When the next automatic rotation starts; null if none is planned. It is up to 30 s before the end of rotation_period, or up to 30 s after the time of rotation_schedule: how much depends on the name, so that not all rotate together."),
		"overdue":             field(framework.TypeBool, "Whether the next automatic rotation is more than a minute late. A rotation that waits for an overlap to end is not late."),
		"failures":            field(framework.TypeInt, "How many automatic attempts (rotations and retirements) failed in a row."),
		"last_error":          field(framework.TypeString, "Why the last attempt failed; empty after a success."),
		"retry_time":          field(framework.TypeString, "After a failure: when the engine tries again; null otherwise. If needs_attention is true, the engine at that time only finishes operations and retires values; it does not rotate."),
		"needs_attention":     field(framework.TypeBool, "Whether automatic rotation has stopped until a manual rotation (or the rollback of a role) succeeds."),
		"advice":              field(framework.TypeString, "What you should do, with the command; empty if there is nothing to do."),
		"in_flight":           field(framework.TypeMap, "The operation under way: rotation_id, kind, trigger, started, secrets, interrupted (true if no node works on it now), and, while a step runs, secret and step; null if there is none."),
		"unresolved":          field(framework.TypeMap, "For each unresolved secret: since, cause, attempts, and retry_time (when the engine tries again). A secret is unresolved if its target may hold a value other than the current one, because the engine could not put it back yet. Other secrets are not affected. null if no secret is unresolved."),
	}
}

func statusFields() map[string]*framework.FieldSchema {
	fields := rotationStatusFields()
	fields["role"] = field(framework.TypeString, "Name of the role.")
	fields["secrets"] = field(framework.TypeMap, oneLine(`For each secret: its type and its stages. retire_time of the stage previous is the end of its overlap.
		by_request_only is true if only a manual rotation rotates the secret (hash_only). For keys that are verified through the engine, a stage has uses and last_used.
		The engine counts them in memory since counted_since, the later of two times: when the value got this stage, and when this Vault
		server became active. For a previous database login, the stage has sessions (how many were open at looked_at) and last_used
		(when the engine last saw one). If the overlap of a previous value goes on because somebody needs it, the stage has waits_for (who needs it)
		and drain_until (the latest end of the overlap, which retire_time then shows too). prolonged_by of the stage previous: by how many seconds its overlap
		is longer because readers could not read. destroy_time of the
		stage previous: when the engine sends checks with phase=retire and destroys the value, whose overlap has ended.`))
	fields["report"] = field(framework.TypeString, "The status as text, for people; read it with -field=report.")
	fields["overlap"] = field(framework.TypeString, "Who still uses previous values, and whether you would cut somebody off if you ended the overlap now; empty if there are no previous values.")
	fields["readers"] = field(framework.TypeMap, oneLine(`Who reads creds of the role: known (how many readers the engine remembers), current (how many of
		them have the current value of each secret that they have read), late_count, and late. A reader is late if it has a previous value in its overlap and has not
		read the current one. For each of the first 50, late has name (its display name), entity_id, entity (the name of the entity), aliases (by which names it logs in),
		address, version (the newest version that it has of the secret in which it is late; if it is late in several, the lowest of these), first_read (when it first read that version), last_read and late_since. A reader is an
		entity or, for tokens without one, a display name. The engine remembers at most 1000 readers of a role, and 10000 in all.`))
	fields["destinations"] = field(framework.TypeMap, "For each destination: state (in_sync, pending, drifted or failed), since (when it got this state), version (the version that the engine published last, or tried to) and last_error.")
	fields["refusals"] = field(framework.TypeMap, "For each check with phase=retire: outcome (refused, accepted, or not_shown), secrets, detail, time, and rotation_id of the record. The next rotation of these secrets removes it. null if there is none.")
	fields["following"] = field(framework.TypeMap, "What is left to do after the latest commit: rotation_id, and tasks, which has for each check or destination done, failed, dropped (it ended before there was a result), required, detail and next (when the engine tries next); null if nothing is left.")
	return fields
}

const statusHelp = `
Returns the versions and stages of a role's secrets, its last and its next rotation, the
operation that is under way and its step, what went wrong, and what to do about it. It
never shows a value.`

// statusReport tells the status of a role as text, for people: a table shows nested data
// as nobody can read it. Data is what status answers beside it.
func statusReport(r *rotation.Role, s *rotation.Snapshot, readers usage.Readers, data map[string]any) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	next := "no automatic rotation is planned"
	if at := data["next_vault_rotation"]; at != nil {
		next = fmt.Sprintf("the next rotation starts %v", at)
	}
	line("role %s: version %d; %s", r.Name, s.Version, next)
	for _, name := range s.Names() {
		line("secret %s", stagesLine(s.Secrets[name]))
	}
	if readers.Known > 0 {
		line("readers: %d of %d have the current version", readers.Current, readers.Known)
	}
	described, _ := data["readers"].(map[string]any)
	named, _ := described["late"].([]map[string]any)
	for i, late := range readers.Late[:min(len(readers.Late), maxLate)] {
		late.Name = cmp.Or(named[i]["entity"].(string), late.Name)
		line("late: %s; late since %v", late, timestamp(late.Since))
	}
	destinations, _ := data["destinations"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(destinations)) {
		copied := destinations[name].(map[string]any)
		line("destination %s: %v since %v, version %v", name, copied["state"], cmp.Or(copied["since"], any("the beginning")), copied["version"])
	}
	if op, _ := data["in_flight"].(map[string]any); op != nil {
		line("under way: %v %v since %v", op["kind"], op["rotation_id"], op["started"])
	}
	if s.PostCommit != nil {
		line("after the commit of %s: %s", s.PostCommit.ID, describeTasks(s.PostCommit.Tasks))
	}
	for _, a := range s.Asked {
		line("retired value of %s: %s, by %s: %s", strings.Join(a.Secrets, ", "), strings.ReplaceAll(string(a.Finding), "_", " "), a.Name, a.Detail)
	}
	if s.LastError != "" {
		line("last error: %s", s.LastError)
	}
	if overlap := fmt.Sprint(data["overlap"]); overlap != "" {
		line("overlap: %s", overlap)
	}
	line("to do: %s", cmp.Or(fmt.Sprint(data["advice"]), "nothing"))
	return b.String()
}

// stagesLine tells which values a secret has, in a line.
func stagesLine(s *rotation.Secret) string {
	text := fmt.Sprintf("%s (%s): ", s.Name, s.Type)
	if s.Current == nil {
		return text + "no value yet"
	}
	text += fmt.Sprintf("current is version %d", s.Current.Version)
	if s.Previous != nil {
		text += fmt.Sprintf(", previous is version %d until %v", s.Previous.Version, timestamp(s.Previous.RetireTime))
		if s.Previous.DestroyTime.After(s.Previous.RetireTime) {
			text += fmt.Sprintf(", and checks with phase=retire follow at %v", timestamp(s.Previous.DestroyTime))
		} else if names := s.Previous.WaitsFor; len(names) > 0 {
			text += " at the latest, for: " + strings.Join(names, ", ")
		}
	}
	return text
}
