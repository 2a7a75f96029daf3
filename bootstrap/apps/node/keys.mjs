// API keys: accepts the current and the previous value of a secret of type api_key.
import { createHash, timingSafeEqual } from 'node:crypto'
import { CredentialsError } from './source.mjs'

/**
 * Whether offered is the current key, or in the overlap the previous one. How long a
 * comparison takes tells nothing about the keys. A key that is neither makes the source
 * read again, because whoever sends it may have seen a rotation first: that takes 3
 * seconds at most. For a secret with hash_only the hashes are compared.
 */
export async function accepts(source, offered, secret = 'api') {
  if (!source.current.value(secret, 'key') && !source.current.value(secret, 'key_sha256')) {
    throw new CredentialsError(`compare API key: the credentials have no ${secret} with keys`) // nobody could get in
  }
  if (!offered) return false
  const digest = sha256(offered)
  return (await source.settle((credentials) => isOneOf(credentials, secret, digest))) === true
}

/** Compare digests, which have the same length whatever was offered, and always both. */
function isOneOf(credentials, secret, digest) {
  const equal = ['', 'previous_'].map((stage) => {
    const key = credentials.value(secret, `${stage}key`)
    const expected = key ? sha256(key) : Buffer.from(credentials.value(secret, `${stage}key_sha256`) ?? '', 'hex')
    return expected.length === digest.length && timingSafeEqual(digest, expected)
  })
  return equal.includes(true)
}

const sha256 = (text) => createHash('sha256').update(text).digest()
