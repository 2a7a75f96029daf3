// An example service to copy from: it works in PostgreSQL and accepts JWTs and API keys.
// The lines that it needs for rotations end with the comment "rotation".
//
//   npm install pg jose
//   PORT=8000 VAULT_ADDR=… SMVM_ROLE_ID_FILE=… SMVM_SECRET_ID_FILE=… node main.mjs
//   PORT=8000 SMVM_CREDS_FILE=/var/lib/smvm-api/creds.json node main.mjs     # what a Vault Agent renders
//
// SMVM_PATH is the path of the role, smvm/creds/default if it is not set.
import { randomUUID } from 'node:crypto'
import http from 'node:http'
import { errors } from 'jose'
import { accepts } from './keys.mjs'
import { Pool } from './pool.mjs'
import { AgentFile, AppRole, Source, Vault } from './source.mjs'
import { sign, verify } from './tokens.mjs'

const issuer = 'smvm-api'
const tokenLife = 15 * 60 // seconds
const schema = `SELECT pg_advisory_xact_lock(7381920);
CREATE TABLE IF NOT EXISTS smvm_node_requests (
    request uuid PRIMARY KEY,
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT now(),
    login text NOT NULL DEFAULT session_user
)`
const read = 'SELECT coalesce(max(id), 0) AS id, session_user AS login FROM smvm_node_requests'
// Done twice, it writes one row: so it may be repeated even if the answer to COMMIT was lost.
const write = `INSERT INTO smvm_node_requests (request) VALUES ($1)
ON CONFLICT (request) DO UPDATE SET request = excluded.request RETURNING id, login`

class Refusal extends Error {}

const source = await Source.open(reader(process.env)) // rotation
const pool = new Pool(source, { application_name: 'smvm-api', idleTimeoutMillis: 60_000 }) // rotation
process.on('SIGHUP', () => source.refresh()) // rotation
await query(schema)

function reader(env) {
  if (env.SMVM_CREDS_FILE) return new AgentFile(env.SMVM_CREDS_FILE)
  const login = env.SMVM_ROLE_ID_FILE && new AppRole({ roleIdFile: env.SMVM_ROLE_ID_FILE, secretIdFile: env.SMVM_SECRET_ID_FILE })
  return new Vault({ address: env.VAULT_ADDR, path: env.SMVM_PATH ?? 'smvm/creds/default', login })
}

/** Run a statement that may be run twice, and return its first row. */
async function query(sql, ...values) {
  const { rows } = await pool.transaction((client) => client.query(sql, values.length ? values : undefined), { idempotent: true }) // rotation
  return rows?.[0]
}

async function byKey({ headers }) {
  if (!(await accepts(source, headers['x-api-key']))) throw new Refusal('send an API key that is valid') // rotation
}

async function byTokenOrKey(request) {
  const { authorization } = request.headers
  if (!authorization) return byKey(request)
  try {
    await verify(source, authorization.replace(/^Bearer /, ''), { issuer }) // rotation
  } catch (error) {
    throw error instanceof errors.JOSEError ? new Refusal('send a token that is valid') : error
  }
}

const routes = {
  async 'GET /health'() {
    await query('SELECT 1')
    const { current } = source
    return { status: 'ok', version: current.version, database_user: current.value('db', 'username'), failed_reads: source.failing }
  },
  async 'POST /api/token'(request) {
    await byKey(request)
    const now = Math.floor(Date.now() / 1000)
    return { token: await sign(source, { iss: issuer, sub: 'api-key', iat: now, exp: now + tokenLife }), expires_in: tokenLife } // rotation
  },
  async 'GET /api/test'(request) {
    await byTokenOrKey(request)
    return query(read)
  },
  async 'POST /api/test'(request) {
    await byTokenOrKey(request)
    return query(write, randomUUID())
  },
}

const server = http.createServer(async (request, response) => {
  let status = 200
  let answer
  try {
    const route = routes[`${request.method} ${request.url}`]
    if (route) answer = await route(request)
    else [status, answer] = [404, { error: 'there is no such path' }]
  } catch (error) {
    if (error instanceof Refusal) {
      ;[status, answer] = [401, { error: error.message }]
    } else {
      ;[status, answer] = [503, { error: 'the database did not answer' }]
      console.error(`${request.method} ${request.url}: ${error.name} ${error.code ?? ''}`)
    }
  }
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(answer))
})
server.listen(process.env.PORT ?? 8000, '127.0.0.1')
process.on('SIGTERM', () => {
  server.close(async () => {
    await pool.end()
    source.close()
  })
  // A client that has connected and asks nothing would keep it for a minute.
  setTimeout(() => server.closeAllConnections(), 10_000).unref()
})
