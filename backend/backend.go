// Package backend is Vault's face of the engine: paths, storage, the scheduler,
// and the mapping of errors to HTTP. What a rotation is stands in the package
// rotation, what a secret is in the package secret; nothing of that is decided
// here.
//
// A request becomes one call of the domain: path_*.go read the fields, call it,
// and map the result. Rotations never run inside a request or inside Vault's
// periodic function, because both hold a lock that sealing needs; they run in
// goroutines of the backend, and requests wait for them for a bounded time.
package backend

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/audit"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/check"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/connections"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/doctor"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/drift"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/metrics"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/notify"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/publish"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/schedule"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/apikey"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/database"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/jwt"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret/random"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/settings"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/tripwire"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/usage"
)

// operationPrefix is what the ids of this engine's OpenAPI operations begin with.
const operationPrefix = "smvm"

// version is what Vault shows as the running version; releases set it by linker
// flag. Vault wants semantic versioning with a leading v.
var version = "v0.1.0"

// backend is one mount of the engine.
type backend struct {
	*framework.Backend
	engine    *rotation.Engine
	registry  *roles.Registry
	scheduler *schedule.Scheduler
	usage     *usage.Usage
	tripwire  *tripwire.Tripwire
	drift     *drift.Detector
	alerts    *notify.Alerts
	metrics   *metrics.Metrics
	postgres  *postgres.Client
	types     secretTypes
	admin     secret.Values
	fastPaths fastPaths
	shapes    shapes
	// destinations are kept in sync with the roles that name them.
	destinations *publish.Destinations
	// connections are those to PostgreSQL, and who manages which users there.
	connections *connections.Set
	settings    *settings.Ledger
	checks      *check.Checks
	doctor      *doctor.Doctor
	// configuring is held while settings are changed.
	configuring sync.Mutex
	store       *store
	// standby says that this node serves reads and may not write: another one is active.
	standby atomic.Bool
	// mount is the path the engine is mounted at, as requests last named it.
	mount atomic.Pointer[string]
	uuid  string
	now   func() time.Time
	start sync.Once
	stop  context.CancelFunc
}

// Factory makes a backend. It does no I/O: Vault also calls it while a plugin is
// registered, without a storage.
func Factory(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
	b := newBackend(time.Now, registeredTypes) //nolint:contextcheck // a backend outlives the call that makes it
	if conf != nil {
		b.uuid = conf.BackendUUID
	}
	if err := b.Setup(ctx, conf); err != nil {
		return nil, err
	}
	return b, nil
}

// registeredTypes are the types that a role's secrets can have, by name. A new type is one
// more line.
func registeredTypes(client *postgres.Client, passwords secret.Passwords) map[string]secret.Type {
	return map[string]secret.Type{
		databaseType: database.New(client, passwords),
		jwtType:      jwt.New(),
		apiKeyType:   apikey.New(),
		"random":     random.New(passwords),
	}
}

// newBackend returns a backend whose secrets can have those types.
func newBackend(now func() time.Time, types func(*postgres.Client, secret.Passwords) map[string]secret.Type) *backend {
	b := &backend{now: now}
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	b.postgres = postgres.New(
		func(name string) (postgres.Connection, error) { return b.connections.Connection(ctx, name) },
		func(ctx context.Context, connection, username string) (postgres.Owner, error) {
			return b.connections.OwnerOf(ctx, connection, username)
		},
	)
	b.postgres.Now = now
	b.types = types(b.postgres, passwordPolicies{func() logical.SystemView { return b.System() }})
	b.admin = database.NewAdmin(b.postgres)
	b.store = &store{configured: func(ctx context.Context) error {
		_, err := b.settings.Load(ctx)
		return err
	}}
	b.settings = settings.New(b.store, rotation.Engine{Now: now, NewID: newID, Cron: schedule.ParseCron, Recorded: b.recorded, Context: ctx})
	b.engine = b.newEngine(ctx)
	b.registry = roles.New(b.engine, b.store.List)
	b.tripwire = b.newTripwire()
	b.connections = connections.New(connections.Ports{
		Roles: b.registry, Store: b.store, Postgres: b.postgres, Admin: b.admin, Mount: b.mountPath,
		Moved: func(name string) { b.drift.ConnectionMoved(name) },
	})
	b.scheduler = schedule.New(schedule.Ports{Roles: b.registry, Connections: connections.Needed, Workers: func() int { return b.settings.Now().Workers() }, Now: now, Log: b.log})
	b.usage = b.newUsage()
	b.drift = drift.New(b.driftPorts())
	b.destinations = publish.New(b.destinationPorts())
	b.alerts = notify.New(ctx, b.alertPorts())
	b.metrics = b.newMetrics()
	b.checks = check.New(check.Ports{Rule: b.ruleFor(outbound.ForChecks), Values: b.testFields, RetiredNames: b.retiredNames, Retired: b.retiredFields, Now: now})
	b.engine.Hooks = hooks{b.destinations, b.checks}
	b.doctor = doctor.New(doctor.Ports{
		Types: b.types, Destinations: b.destinations, Rule: b.ruleFor(outbound.ForChecks), Order: b.engine.Order, Mount: b.mountPath, Now: now,
	})
	busiest := b.busiest()
	b.fastPaths = newFastPaths(busiest...)
	b.Backend = &framework.Backend{
		Help:           help,
		BackendType:    logical.TypeLogical,
		RunningVersion: version,
		Paths:          append(busiest, b.paths()...),
		PathsSpecial:   &logical.Paths{SealWrapStorage: []string{roles.Prefix, roles.ConnectionPrefix, notify.Prefix, publish.Prefix, tripwire.Prefix}, Unauthenticated: publicPaths},
		InitializeFunc: b.initialize,
		PeriodicFunc:   b.periodic,
		Clean:          b.clean,
		Invalidate:     b.invalidate,
	}
	b.shapes = newShapes(b.Paths)
	return b
}

// alertPorts are what alerts get from here.
func (b *backend) alertPorts() notify.Ports {
	return notify.Ports{
		Roles: b.registry.Loaded, Store: b.store, Now: b.now, Log: b.log, Mount: b.mountPath, Failpoint: failpoint,
		Environment: func() string { return b.rotationSettings().Environment },
		Rule:        b.ruleFor(outbound.ForAlerts),
		Refused:     b.drift.Refused, RefusedAdvice: b.drift.Advice, Accepted: b.drift.Accepted,
		UnresolvedAdvice: unresolvedAdvice, InSync: b.destinations.InSync, RetiredUses: b.retiredUses,
	}
}

// destinationPorts are what destinations get from here.
func (b *backend) destinationPorts() publish.Ports {
	return publish.Ports{
		Roles: b.registry, Store: b.store, Configuring: &b.configuring, Now: b.now, Log: b.log, Mount: b.mountPath, Failpoint: failpoint,
		MountID: func() string { return b.uuid }, Values: b.currentFields, Fit: check.Fit, NewOperation: b.engine.NewOperation,
		Rule: b.ruleFor(outbound.ForDestinations),
	}
}

func (b *backend) newEngine(ctx context.Context) *rotation.Engine {
	drivers := map[string]rotation.Driver{connectionType: b.admin}
	for name, t := range b.types {
		drivers[name] = t
	}
	return withFailpoints(&rotation.Engine{
		Store:    b.store,
		Drivers:  drivers,
		Now:      b.now,
		NewID:    newID,
		Cron:     schedule.ParseCron,
		Settings: b.rotationSettings,
		Compare:  audit.Changes,
		Leave: func(ctx context.Context, r *rotation.Role, before, after *rotation.State) error {
			return b.tripwire.Leave(ctx, r, before, after)
		},
		Changed:    b.changed,
		Recorded:   b.recorded,
		Context:    ctx,
		Dependents: func(r *rotation.Role, s *rotation.Secret) []string { return b.usage.Dependents(r, s) },
	})
}

func (b *backend) driftPorts() drift.Ports {
	return drift.Ports{
		Roles: b.registry, Users: b.connections.Managed, Engine: b.engine, Identity: b.postgres.Identity, Loaded: b.scheduler.Loaded(), Log: b.log,
		Changed: func(r *rotation.Role) { b.alerts.Enqueue(r) },
		Settings: func(ctx context.Context) (drift.Settings, error) {
			s, err := b.settings.Load(ctx)
			if err != nil {
				return drift.Settings{}, err
			}
			return drift.Settings{Repair: s.OnDrift == settings.Repair, Interval: s.Probes()}, nil
		},
	}
}

func (b *backend) newUsage() *usage.Usage {
	return usage.New(usage.Ports{
		Roles: b.registry, Loaded: b.scheduler.Loaded(), Store: b.store, Types: b.types, Connection: connections.Of,
		Sessions: b.postgres.Sessions, EntityName: b.entityName, Visible: audit.Visible, Now: b.now, Log: b.log,
		Counts: func(typeName string) bool { return typeName == apiKeyType || typeName == jwtType },
	})
}

func (b *backend) newTripwire() *tripwire.Tripwire {
	types := map[string]secret.Values{connectionType: b.admin}
	for name, t := range b.types {
		types[name] = t
	}
	return tripwire.New(tripwire.Ports{
		Store: b.store, Roles: b.registry, Types: types, Now: b.now, Log: b.log,
		Retention: func(ctx context.Context) (time.Duration, error) {
			s, err := b.settings.Load(ctx)
			if err != nil {
				return 0, err
			}
			return s.Tripwire(), nil
		},
		Writable: func() bool { return b.WriteSafeReplicationState() },
		Noted: func(key string) {
			if r := b.registry.Known(key); r != nil {
				b.alerts.Enqueue(r)
			}
		},
	})
}

func (b *backend) newMetrics() *metrics.Metrics {
	return metrics.New(version, metrics.Ports{
		Roles: b.registry, Queue: b.scheduler.Load, Undelivered: b.alerts.Undelivered, Now: b.now,
		Refused:      func(r *rotation.Role) bool { return len(b.drift.Refused(r)) > 0 },
		Readers:      b.countReaders,
		Destinations: b.destinations.Count,
	})
}

// changed is called after each change of a role, and when one was loaded.
func (b *backend) changed(r *rotation.Role) {
	b.connections.Managed.Note(r)
	b.usage.Follow(r)
	b.scheduler.Plan(r)
	b.alerts.Enqueue(r)
	b.destinations.Changed(r)
	b.drift.Follow(r)
}

// rotationSettings are what the mount's configuration says about rotations.
func (b *backend) rotationSettings() rotation.Settings { return b.settings.Now().ForRotations() }

// rule is what the administrator of the mount has said by now about where requests of a
// use may go. It is asked for again for each, and never guessed: as long as the
// configuration can't be read, nothing is sent.
func (b *backend) rule(ctx context.Context, use string) (outbound.Rule, error) {
	s, err := b.settings.Load(ctx)
	if err != nil {
		return outbound.Rule{}, fmt.Errorf("read where requests may go: %w", err)
	}
	return s.Rule(use, b.mountPath())
}

// ruleFor is rule for one use.
func (b *backend) ruleFor(use string) func(context.Context) (outbound.Rule, error) {
	return func(ctx context.Context) (outbound.Rule, error) { return b.rule(ctx, use) }
}

// currentFields are what destinations get of a role.
func (b *backend) currentFields(s *rotation.State) (map[string]string, error) {
	return secret.CurrentFields(b.types, s)
}

// testFields are what checks of a role may send.
func (b *backend) testFields(s *rotation.Snapshot) (map[string]string, error) {
	return secret.TestFields(b.types, s, b.now())
}

// retiredNames are the names of what checks with phase=retire may send beside that.
func (b *backend) retiredNames(s *rotation.State) map[string]string {
	return secret.RetiredNames(b.types, s)
}

// retiredFields are testFields with the previous values of these secrets.
func (b *backend) retiredFields(s *rotation.Snapshot, secrets []string) (map[string]string, error) {
	return secret.RetiredFields(b.types, s, secrets, b.now())
}

// busiest are the paths that applications ask for all day. They come first, because
// a path is found by going through all of them.
func (b *backend) busiest() []*framework.Path {
	return []*framework.Path{
		b.pathCreds(),
		b.pathCredsSecret(),
		b.pathJWTVerify(),
		b.pathAPIKeyVerify(),
		b.pathJWKS(),
	}
}

func (b *backend) paths() []*framework.Path {
	return []*framework.Path{
		b.pathConfig(),
		b.pathConfigHistory(),
		b.pathConfigHistoryRecord(),
		b.pathConfigHistoryNote(),
		b.pathConnectionList(),
		b.pathConnections(),
		b.pathConnectionHistory(),
		b.pathConnectionHistoryRecord(),
		b.pathConnectionHistoryNote(),
		b.pathRotateRoot(),
		b.pathRoleList(),
		b.pathRoles(),
		b.pathSecretList(),
		b.pathSecrets(),
		b.pathCheckList(),
		b.pathChecks(),
		b.pathAlertList(),
		b.pathAlerts(),
		b.pathAlertTest(),
		b.pathDestinationList(),
		b.pathDestinations(),
		b.pathRotate(),
		b.pathRollback(),
		b.pathRetire(),
		b.pathVerify(),
		b.pathLeaked(),
		b.pathJWTSign(),
		b.pathJWKSDiscovery(),
		b.pathStatus(),
		b.pathHistoryList(),
		b.pathHistory(),
		b.pathHistoryRecord(),
		b.pathHistoryNote(),
		b.pathMetrics(),
	}
}

// initialize runs inside Vault's unseal, so it returns at once; roles are loaded
// in the background, and on demand by requests that come first.
func (b *backend) initialize(_ context.Context, req *logical.InitializationRequest) error {
	b.store.handle.Store(&req.Storage)
	b.startWork()
	return nil
}

// startWork starts the background work, once, on a node that may write. Whether this is
// one is asked for here only: to ask Vault at each read would take longer than the read.
func (b *backend) startWork() {
	if b.store.handle.Load() == nil {
		return
	}
	active := b.WriteSafeReplicationState()
	b.standby.Store(!active)
	if !active {
		return
	}
	b.start.Do(func() {
		go b.scheduler.Run(b.engine.Context)
		go b.usage.Run(b.engine.Context)
		go b.tripwire.Run(b.engine.Context)
		go b.drift.Run(b.engine.Context)
		go b.drift.Watch(b.engine.Context)
		go b.alerts.Load()
		go b.destinations.Run(b.engine.Context)
	})
}

// periodic is Vault's timer, once a minute. It starts what is due without
// waiting for any of it: Vault cannot seal while it runs. Between two calls the
// scheduler's own timer keeps rotations on the second; this call is what brings
// a crashed plugin back to work.
func (b *backend) periodic(_ context.Context, req *logical.Request) error {
	b.noteMount(req)
	if b.System().Tainted() {
		return nil
	}
	b.startWork()
	b.scheduler.Tick()
	b.usage.Tick()
	b.alerts.Tick()
	b.destinations.Wake()
	return nil
}

// clean ends all work. Runs stop where they are: their intents are saved, and
// the next to start recovers them.
func (b *backend) clean(context.Context) {
	b.stop()
	b.postgres.Close()
}

// invalidate is called on other nodes of a cluster when an entry was written.
func (b *backend) invalidate(_ context.Context, key string) {
	if key == settings.Key {
		b.settings.Forget()
	}
	b.connections.Managed.Forget(key)
	b.tripwire.Invalidate(key)
	b.registry.Drop(key)
}

// noteMount remembers the mount path for log lines.
func (b *backend) noteMount(req *logical.Request) {
	if known := b.mount.Load(); req.MountPoint != "" && (known == nil || *known != req.MountPoint) {
		mount := req.MountPoint
		b.mount.Store(&mount)
	}
}

// log returns a logger whose lines say which mount they are about: the lines of
// all mounts appear under the name of one of them.
func (b *backend) log() hclog.Logger {
	return b.Logger().With("mount", b.mountPath(), "backend_uuid", b.uuid)
}

// mountPath is where the engine is mounted, empty as long as that is not known.
func (b *backend) mountPath() string {
	if known := b.mount.Load(); known != nil {
		return *known
	}
	return ""
}

// retiredUses are the uses of retired values that events tell of.
func (b *backend) retiredUses(ctx context.Context, r *rotation.Role, after int) ([]notify.RetiredUse, error) {
	noted, err := b.tripwire.Uses(ctx, r, after)
	uses := make([]notify.RetiredUse, 0, len(noted))
	for _, n := range noted {
		uses = append(uses, notify.RetiredUse{
			Number: n.Number, At: n.At, Secret: n.Secret, Version: n.Version, Token: n.Token, Actor: n.Actor, Address: n.Address,
		})
	}
	return uses, err
}

// recorded writes the one log line of each change. The hash ties the line to the
// history entry, so that the log vouches for the history.
func (b *backend) recorded(r *rotation.Role, rec rotation.Record, e rotation.Entry) {
	if rec.Kind == rotation.KindRepair && rec.Outcome == rotation.OutcomeCompleted {
		b.drift.Forget(r, rec.Secrets)
	}
	b.metrics.Recorded(rec)
	fields := []any{
		"rotation_id", rec.ID, "kind", string(rec.Kind), "outcome", string(rec.Outcome), "subject", r.Key,
		"version", rec.Version, "trigger", string(rec.Trigger), "entity_id", rec.Actor.EntityID,
		"display_name", rec.Actor.DisplayName, "duration_ms", rec.DurationMS,
		"sequence", e.Sequence, "hash", e.Hash,
	}
	if rec.Outcome == rotation.OutcomeCompleted {
		b.log().Info("operation completed", fields...)
		return
	}
	b.log().Warn("operation did not complete", append(fields, "issues", rec.Issues)...)
}

// newID returns a UUID that sorts by time (version 7), because the vault CLI
// lists history in alphabetical order. Without randomness nothing may go on.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// passwordPolicies generates passwords by Vault's password policies.
type passwordPolicies struct{ system func() logical.SystemView }

// Generate implements secret.Passwords.
func (p passwordPolicies) Generate(ctx context.Context, policy string) (string, error) {
	return p.system().GeneratePasswordFromPolicy(ctx, policy)
}

const help = `
The SMVM engine rotates everything an application authenticates with: its
PostgreSQL user, its JWT signing key, its API keys and other secrets. They rotate
as one transaction, on "vault write -f smvm/rotate" or on a schedule.
Applications read smvm/creds.

Write connections/<name> to say how to reach a PostgreSQL server, roles/<role> for each
application, and secrets/<role>/<secret> for each of its secrets. Paths without the
name of a role, such as smvm/rotate, act on the role "default".
`
