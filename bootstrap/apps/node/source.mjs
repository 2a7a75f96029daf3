// What a Node service needs to run on rotating credentials without a restart and
// without a failed request. Copy source.mjs, and of the others those that you use:
//
//   source.mjs   reads the credentials of a role, and keeps them current; no dependencies
//   pool.mjs     a pool of `pg` that moves to new logins, and repeats a lost transaction
//   tokens.mjs   signs and verifies JWTs by kid with `jose`: current and previous key
//   keys.mjs     compares API keys in constant time: current and previous
//   main.mjs     an example service
//
// A Source reads Vault, with a login by AppRole or through a Vault Proxy, or one JSON file
// that a Vault Agent renders. It reads again after ttl, and at once when a login is refused
// or a key is unknown. While Vault does not answer, it keeps the last values, also the
// previous ones, because only Vault says when their overlap ends.
//
// These modules do not renew a token (they log in again before it ends), sign with keys
// that stay in the engine, read the Agent's .env, or follow a list of database hosts.
// They follow no redirects and use no proxy. Node trusts the authorities that it was
// built with; for a Vault with a private CA, set NODE_EXTRA_CA_CERTS.
import { EventEmitter } from 'node:events'
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'

const MAX_TTL = 24 * 60 * 60 // seconds
const MIN_INTERVAL = 500 // between two reads, in milliseconds
const MAX_BACKOFF = 15_000 // after reads that failed, in milliseconds
const TIMEOUT = 10_000 // of one request to Vault, in milliseconds
// After a refused login, in milliseconds. Vault counts refused logins for each role_id: 5 of
// them, each less than 15 minutes after the one before, lock it out for 15 minutes, for all
// who use it. While it is locked out (403), logins are not counted.
const REFUSED_PAUSE = { 400: 960_000, 403: 60_000 }

/** The credentials could not be read or used. Its message holds no secret; status is Vault's, if it answered. */
export class CredentialsError extends Error {
  constructor(message, status) {
    super(message)
    this.name = 'CredentialsError'
    this.status = status
  }
}

/** The values of a role at one version. They do not change, and are not shown when it is printed. */
export class Credentials {
  #values

  /** data is what creds answers; ttl says when to read again, in seconds. */
  constructor(data, ttl = data?.ttl + 1) {
    const { ttl: _, rotation_period, next_vault_rotation, ...values } = data ?? {}
    if (!Number.isSafeInteger(values.version) || !(ttl >= 0)) {
      throw new CredentialsError('read the answer: it has no version or no ttl; is this the path of smvm/creds/<role>?')
    }
    this.version = values.version
    this.ttl = Math.min(ttl, MAX_TTL)
    this.#values = values
  }

  /** A field of a secret, such as value('db', 'password'); undefined if there is none. */
  value(secret, field) {
    return this.#values[`${secret}_${field}`] || undefined
  }

  /** Whether the other has the same values of the same version. */
  sameAs(other) {
    return isDeepStrictEqual(this.#values, other.#values)
  }
}

/**
 * Holds the current credentials of a role and keeps them current. When others have come
 * into use it emits 'change' with them.
 */
export class Source extends EventEmitter {
  #reader
  #log
  #current
  #confirmed
  #due // a read that begins before confirms nothing
  #coming // the read that has not begun yet; whoever asks before it begins waits for it too
  #reading
  #began = -Infinity
  #timer
  #closed = false
  /** How many reads in a row did not succeed: 0 when all is well. Report it, but go on: the last values still work. */
  failing = 0

  constructor(reader, log) {
    super()
    this.#reader = reader
    this.#log = log
  }

  /**
   * Read the credentials, again and again until it works; after patience milliseconds throw
   * a CredentialsError. reader is a Vault, an AgentFile, or whatever has such a read().
   */
  static async open(reader, { patience = 60_000, log = console } = {}) {
    const source = new Source(reader, log)
    const deadline = performance.now() + patience
    while (!(await source.refresh())) {
      if (performance.now() > deadline) {
        source.close()
        throw new CredentialsError(`no credentials after ${patience / 1000} s; the log has the cause`)
      }
    }
    return source
  }

  /** The newest credentials that were read. */
  get current() {
    return this.#current
  }

  /**
   * The newest credentials that a later read, ttl or more after the first one, has found
   * again. Newer ones other instances may not have read yet, so sign does not sign with them.
   */
  get confirmed() {
    return this.#confirmed
  }

  /** Read now, or half a second after the last read; whether that worked. */
  refresh() {
    this.#coming ??= this.#readSoon()
    return this.#coming
  }

  /**
   * What find finds in the credentials; if that is nothing, read again and look once more.
   * For what another instance may have seen first: an unknown kid or API key.
   */
  async settle(find) {
    const found = find(this.current)
    if (found) return found
    await Promise.race([this.refresh(), sleep(3000, undefined, { ref: false })])
    return find(this.current)
  }

  /** End the reading. The last credentials stay usable. */
  close() {
    this.#closed = true
    clearTimeout(this.#timer)
  }

  async #readSoon() {
    await this.#reading
    await sleep(Math.max(0, this.#began + MIN_INTERVAL - performance.now()))
    this.#coming = undefined
    this.#reading = this.#read()
    return this.#reading
  }

  async #read() {
    clearTimeout(this.#timer)
    this.#began = performance.now()
    let pause, fresh
    try {
      fresh = await this.#reader.read()
      this.failing = 0
      pause = fresh.ttl * 1000
    } catch (error) {
      this.failing++
      pause = Math.min(MIN_INTERVAL * 2 ** this.failing, MAX_BACKOFF) * (0.5 + Math.random() / 2)
      this.#log.warn(`read credentials (${this.failing} failures): ${told(error)}`)
    }
    if (!this.#closed) {
      this.#timer = setTimeout(() => this.refresh(), pause)
      this.#timer.unref()
    }
    if (fresh) this.#use(fresh)
    return fresh !== undefined
  }

  #use(fresh) {
    const before = this.#current
    this.#current = fresh
    const changed = !before || !fresh.sameAs(before)
    if (changed) this.#due = this.#began + fresh.ttl * 1000
    if (!before || this.#began >= this.#due) this.#confirmed = fresh
    if (!before || !changed) return
    this.#log.info(`new credentials: version ${fresh.version}, before ${before.version}`)
    try {
      this.emit('change', fresh)
    } catch (error) {
      this.#log.error(`take over new credentials: ${told(error)}`)
    }
  }
}

/** What may be logged of an error: the text only of those that are known to hold no secret. */
const told = (error) => (error instanceof CredentialsError ? error.message : error.name)

/** Reads the JSON file that a Vault Agent renders (docs/applications.md), every second. */
export class AgentFile {
  #path

  constructor(path) {
    this.#path = path
  }

  async read() {
    let text
    try {
      text = await readFile(this.#path, 'utf8')
      return new Credentials(JSON.parse(text), 1)
    } catch (error) {
      if (error instanceof CredentialsError) throw error
      // An error of JSON.parse quotes the file.
      throw new CredentialsError(`read ${this.#path}: ${text === undefined ? error.code : 'it is no JSON'}`)
    }
  }
}

/** Reads the credentials of a role from Vault's API, or through a Vault Proxy or Agent on this machine. */
export class Vault {
  #address
  #path
  #login
  #namespace

  /** login gets the tokens, see AppRole; leave it out if a Proxy adds its own. path is smvm/creds/<role>. */
  constructor({ address, path, login, namespace }) {
    this.#address = new URL(address).origin
    this.#path = path
    this.#login = login
    this.#namespace = namespace
  }

  async read() {
    return new Credentials((await this.ask('GET', this.#path)).data)
  }

  /** Send a request with a token, and return the answer. A token that is refused is replaced, once. */
  async ask(method, path, body) {
    try {
      return await this.call(method, path, body, await this.#login?.token(this))
    } catch (error) {
      if (error.status !== 403 || !this.#login) throw error
    }
    this.#login.refused()
    return this.call(method, path, body, await this.#login.token(this))
  }

  /** Send one request to Vault's API; throw a CredentialsError for any answer other than success. */
  async call(method, path, body, token) {
    const headers = { 'X-Vault-Request': 'true' }
    if (token) headers['X-Vault-Token'] = token
    if (this.#namespace) headers['X-Vault-Namespace'] = this.#namespace
    let response, answer
    try {
      response = await fetch(`${this.#address}/v1/${path}`, {
        method, headers, body: body && JSON.stringify(body), redirect: 'manual', signal: AbortSignal.timeout(TIMEOUT),
      })
      answer = await response.json()
    } catch (error) {
      // An error of json() quotes the answer.
      if (!response) throw new CredentialsError(`ask Vault: ${error.cause?.code ?? error.name}`)
    }
    if (!response.ok || !answer) {
      throw new CredentialsError(
        `Vault answers ${response.status} to ${path}: ${answer ? [answer.errors ?? []].flat().join('; ') : 'with no JSON'}`, answer && response.status)
    }
    return answer
  }
}

/**
 * Logs in with the two files of Vault's AppRole method. It reads them at each login. When
 * Vault refuses them, they are offered again after 16 minutes only, or as soon as they have
 * changed: some more refused logins would lock the role_id out for all who use it.
 */
export class AppRole {
  #files
  #mount
  #entering
  #refusal // the login that Vault refused, until when, and the error
  #token
  #until = 0

  constructor({ roleIdFile, secretIdFile, mount = 'approle' }) {
    this.#files = [roleIdFile, secretIdFile]
    this.#mount = mount
  }

  /** A token that is valid. After two thirds of its life it is replaced. */
  async token(vault) {
    if (!this.#token || performance.now() > this.#until) {
      this.#entering ??= this.#enter(vault).finally(() => { this.#entering = undefined })
      await this.#entering
    }
    return this.#token
  }

  /** Hear that Vault has refused the last token. */
  refused() {
    this.#token = undefined
  }

  async #enter(vault) {
    const [role_id, secret_id] = await Promise.all(this.#files.map(async (file) => {
      try {
        return (await readFile(file, 'utf8')).trim()
      } catch (error) {
        throw new CredentialsError(`read the login to Vault: ${error.code}`)
      }
    }))
    const login = JSON.stringify([role_id, secret_id])
    if (this.#refusal?.login === login && performance.now() < this.#refusal.until) throw this.#refusal.error
    const { auth } = await vault.call('POST', `auth/${this.#mount}/login`, { role_id, secret_id }).catch((error) => {
      throw this.#refused(login, error)
    })
    if (!auth?.client_token) throw new CredentialsError('log in to Vault: the answer has no token')
    this.#token = auth.client_token
    this.#until = auth.lease_duration ? performance.now() + (auth.lease_duration * 2000) / 3 : Infinity
  }

  /** What a login that failed means. One that Vault refused is kept, so that it is not offered again soon. */
  #refused(login, error) {
    const pause = REFUSED_PAUSE[error.status]
    if (!pause) return error
    const [roleId, secretId] = this.#files
    const cause = error.status === 400
      ? `the secret_id in ${secretId} is wrong or has ended, or the role_id in ${roleId} is. Next try when a file has changed, or in ` +
        '16 minutes: after 5 wrong logins Vault locks the role_id out for all who use it'
      : `too many wrong logins have locked the role_id of ${roleId} out for all who use it (\`vault read sys/locked-users\` tells), or ` +
        'the namespace or the mount of the login is wrong. Next try in a minute'
    const told = new CredentialsError(`log in to Vault: ${error.message}; ${cause}`, error.status)
    this.#refusal = { login, until: performance.now() + pause, error: told }
    return told
  }
}
