// A pool of `pg` that moves to new logins by itself.
//
// pg's own hook, password: async () => …, is not enough. pg fixes the user when it makes
// a client, and asks for the password later: with alternating_users it could send the
// password of the other user. So each client here takes user, password, host and TLS of
// one version.
import { isDeepStrictEqual } from 'node:util'
import pg from 'pg'
import { CredentialsError } from './source.mjs'

// PostgreSQL refuses the login.
const REFUSED = ['28P01', '28000']
// The session has ended, or leads to a server that has become a standby.
const LOST = /^(08...|57P0[1-5]|25006)$/
// How often one caller offers logins that the server refuses.
const MAX_REFUSALS = 10

/** The connection ended after COMMIT was sent and before it was answered: the transaction may be committed or not. */
export class CommitUnknown extends Error {
  constructor(cause) {
    super('the connection ended before COMMIT was answered: the transaction may be committed or not', { cause })
    this.name = 'CommitUnknown'
  }
}

/**
 * A pg.Pool whose connections are made with the current login of a secret.
 *
 * New connections use a new login as soon as it was read. Connections of other logins are
 * closed: idle ones at once, those in use when they come back. No query is interrupted.
 * If the server refuses a login, the credentials are read again and it is tried once more.
 *
 * It knows one host; set application_host if the connection has several. pg sends a
 * password to whatever server asks for it in clear, so use verify-full.
 */
export class Pool extends pg.Pool {
  #source
  #login // a client that was made with another object than this one is not used again
  #made = new WeakMap()

  /** options are those of pg.Pool, but for the login and the place, which the credentials decide. */
  constructor(source, { secret = 'db', log = console, ...options } = {}) {
    const login = loginOf(source.current, secret) // throws now rather than at the first request
    let pool
    super({
      connectionTimeoutMillis: 10_000,
      keepAlive: true,
      ...options,
      Client: class extends pg.Client {
        lost = false
        constructor(config) {
          super({ ...config, ...pool.#login })
          pool.#made.set(this, pool.#login)
          // Without a listener, the end of a session would end the process.
          this.on('error', () => { this.lost = true })
        }
      },
    })
    pool = this
    this.#source = source
    this.#login = login
    this.on('error', (error) => log.warn(`an idle connection to PostgreSQL ended: ${error.code ?? error.name}`))
    source.on('change', (credentials) => this.#follow(loginOf(credentials, secret)))
  }

  /** As in pg.Pool; the client's release() closes it if its login is no longer the current one. */
  connect(callback) {
    const connected = this.#connect()
    if (!callback) return connected
    connected.then(
      (client) => callback(undefined, client, client.release),
      (error) => callback(error, undefined, () => {}),
    )
  }

  /**
   * Run work(client) as one transaction, and return what it returns after the COMMIT. If the
   * connection ends meanwhile, work runs once more on another, from its beginning: so do
   * nothing in it but what a rollback undoes. It is not repeated if COMMIT was sent: then
   * this throws CommitUnknown. With idempotent it is repeated even then; that is for reads,
   * and for writes that may be done twice.
   */
  async transaction(work, { idempotent = false } = {}) {
    for (let last = false; ; last = true) {
      const client = await this.connect()
      let committing = false
      try {
        await client.query('BEGIN')
        const result = await work(client)
        committing = true
        await client.query('COMMIT')
        client.release()
        return result
      } catch (error) {
        const lost = client.lost || LOST.test(error.code)
        client.release(lost || !(await rolledBack(client)))
        if (!lost) throw error
        this.#login = { ...this.#login } // the other sessions may be ending too
        if (committing && (last || !idempotent)) throw new CommitUnknown(error)
        if (last) throw error
      }
    }
  }

  async #connect() {
    for (let refusals = 0; ; ) {
      try {
        const client = await super.connect()
        const release = client.release
        client.release = (destroy) => release(destroy || this.#isStale(client))
        if (!this.#isStale(client)) return client
        client.release()
      } catch (error) {
        if (!REFUSED.includes(error.code) || ++refusals === MAX_REFUSALS) throw error
        await this.#source.refresh()
      }
    }
  }

  #isStale(client) {
    return this.#made.get(client) !== this.#login
  }

  /** Use a new login, and close the idle connections of the one before. */
  #follow(login) {
    if (isDeepStrictEqual(login, this.#login)) return
    this.#login = login
    for (let idle = this.idleCount; idle > 0; idle--) {
      super.connect().then((client) => client.release(this.#isStale(client)), () => {})
    }
  }
}

async function rolledBack(client) {
  try {
    await client.query('ROLLBACK')
    return true
  } catch {
    return false
  }
}

/** How to connect with a secret of type database. */
function loginOf(credentials, secret) {
  const [user, password, host] = ['username', 'password', 'host'].map((field) => credentials.value(secret, field))
  if (!user || !password || !host) { // pg would look for each elsewhere
    throw new CredentialsError(`connect to PostgreSQL: the credentials have no ${secret}_username, ${secret}_password and ${secret}_host`)
  }
  return {
    user, password, host,
    port: Number(credentials.value(secret, 'port')),
    database: credentials.value(secret, 'database'),
    ssl: trust(credentials.value(secret, 'sslmode'), credentials.value(secret, 'ssl_root_certificate'), host),
  }
}

const anyName = () => undefined

/** TLS as sslmode says. Without authorities they are those of Node. */
function trust(mode, ca, host) {
  switch (mode) {
    case 'disable':
      return false
    case 'require': // as in libpq, authorities that were given are used
      return ca ? { ca, checkServerIdentity: anyName } : { rejectUnauthorized: false }
    case 'verify-ca':
      return { ca, checkServerIdentity: anyName }
    case 'verify-full':
      return { ca, host } // host, because older versions of pg check IP addresses against "localhost"
  }
  throw new CredentialsError('sslmode of the credentials is none of disable, require, verify-ca and verify-full')
}
