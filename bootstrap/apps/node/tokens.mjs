// JSON Web Tokens by jose: signed with the key of a secret of type jwt, verified with the
// current and the previous one.
import { createPrivateKey, createPublicKey, createSecretKey } from 'node:crypto'
import { SignJWT, errors, jwtVerify } from 'jose'
import { CredentialsError } from './source.mjs'

/**
 * Sign claims, and name the key in the token's header (kid). It is the current key, but for
 * one refresh after a rotation the previous one: other instances may not have read the new
 * key yet. It is an HMAC key or an exportable private key; for one that stays in the engine,
 * ask smvm/jwt/<role>/<secret>/sign. Give the claims exp: verify refuses tokens without it.
 */
export async function sign(source, claims, secret = 'jwt') {
  const credentials = signing(source, secret)
  const [alg, kid] = [credentials.value(secret, 'algorithm'), credentials.value(secret, 'kid')]
  const hmac = credentials.value(secret, 'secret')
  const pem = credentials.value(secret, 'private_key')
  if (!alg || !kid || !(hmac || pem)) throw new CredentialsError(`sign token: the credentials have no ${secret} that signs`)
  const key = hmac ? createSecretKey(hmac, 'utf8') : createPrivateKey(pem)
  return new SignJWT(claims).setProtectedHeader({ alg, kid }).sign(key)
}

/**
 * The credentials whose key signs: the confirmed ones, as long as the current ones have
 * their key as the previous key. After a rollback that is not so: the confirmed ones know
 * the current key, as their previous one.
 */
function signing({ current, confirmed }, secret) {
  const accepted = confirmed.value(secret, 'kid') === current.value(secret, 'previous_kid')
  const known = confirmed.value(secret, 'previous_kid') === current.value(secret, 'kid')
  return accepted && !known ? confirmed : current
}

/**
 * Verify a token and return its claims; throw one of jose's errors if it is not valid.
 * The key is the one that kid in the token's header names. A kid that is neither current
 * nor previous makes the source read again, because another instance may have seen a
 * rotation first. The algorithm is that of the key, whatever the token says. options are
 * those of jose's jwtVerify, such as { issuer, audience }.
 */
export async function verify(source, token, options, secret = 'jwt') {
  const { payload } = await jwtVerify(token, (header) => find(source, secret, header), { requiredClaims: ['exp'], ...options })
  return payload
}

async function find(source, secret, { kid, alg }) {
  const found = kid && (await source.settle((credentials) => keyOf(credentials, secret, kid)))
  if (!found || found.algorithm !== alg) throw new errors.JWKSNoMatchingKey()
  return found.key
}

/** The key of that id that verifies, and its algorithm. */
function keyOf(credentials, secret, kid) {
  const stage = ['', 'previous_'].find((stage) => credentials.value(secret, `${stage}kid`) === kid)
  if (stage === undefined) return undefined
  const hmac = credentials.value(secret, `${stage}secret`)
  const algorithm = credentials.value(secret, `${stage}algorithm`) ?? credentials.value(secret, 'algorithm')
  const key = hmac ? createSecretKey(hmac, 'utf8') : createPublicKey(credentials.value(secret, `${stage}public_key`))
  return { key, algorithm }
}
