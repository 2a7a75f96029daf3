// Package smvmcreds is what a Go service needs to run on rotating credentials
// without a restart and without a failed request.
//
// A Source reads smvm/creds/<role> when it is opened, again whenever the answer's
// ttl has passed, and at once when something suggests that the values have
// changed: PostgreSQL refuses a login, a token carries an unknown key id, a
// request an unknown API key. While Vault is away it keeps the last values.
//
//	source, err := smvmcreds.Open(ctx, &smvmcreds.Vault{
//		Address: "https://vault.example.com:8200",
//		Path:    "smvm/creds/orders",
//		Auth:    &smvmcreds.AppRole{RoleIDFile: "role_id", SecretIDFile: "secret_id"},
//	}, smvmcreds.Options{})
//	defer source.Close()
//
// What was read is used through the source, never copied out of it:
//
//	pool, err := source.NewPool(ctx, config, "db")             // pgxpool.Pool, with the host and TLS mode of creds
//	token, err := source.SignToken(ctx, "jwt", claims)         // signed with a key that other instances know
//	jwt.ParseWithClaims(token, claims, source.Keyfunc("jwt"))  // by kid: current or previous
//	source.AcceptsKey(ctx, "api", key)                         // current or previous
//
// "db", "jwt" and "api" are the names of secrets of the role. The pool moves to a
// new login in three steps, none of which a request notices: new connections are
// made with it as soon as it was read; connections of the previous user are
// closed one by one as they come back from their work, spread over at most a
// quarter of the overlap; those that were idle all that time are closed at its
// end. A query that runs is never interrupted.
//
// Keys of every algorithm that the engine knows sign and verify alike. Tokens are
// verified here, with the HMAC key or the public key, by the algorithm of that key
// and no other. They are signed here with an HMAC key or an exportable private
// key; with one that stays in the engine, the engine signs (jwt/:role/:secret/sign),
// over the same login to Vault, which then needs the policy for it, as application.hcl
// has it. It sets iat, nbf and jti itself, and exp as it was asked for, so leave jti
// out; and it refuses what the secret does not allow.
//
// With alternating_users that is all. With single_user the old password ends at
// the moment of the rotation, so wrap what opens connections in Source.Retry.
//
// Besides the standard library the package uses pgx and golang-jwt, nothing of
// Vault's.
package smvmcreds
