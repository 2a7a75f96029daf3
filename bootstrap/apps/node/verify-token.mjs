// An application that accepts tokens signed by the engine. Of the engine it knows only the
// address of the public keys: JWKS_URL is https://VAULT:8200/v1/smvm/jwks/ROLE/SECRET.
// Run: npm install jose && JWKS_URL=… PORT=8080 node verify-token.mjs
import http from 'node:http'
import { createRemoteJWKSet, jwtVerify } from 'jose'

const keys = createRemoteJWKSet(new URL(process.env.JWKS_URL), { cacheMaxAge: 300_000 }) // refresh_interval
const expected = { algorithms: ['ES256'], issuer: 'orders', audience: 'shop' }

http.createServer(async (request, response) => {
  const token = request.headers.authorization?.replace(/^Bearer /, '') ?? ''
  try {
    const { payload } = await jwtVerify(token, keys, expected)
    response.end(`hello ${payload.sub}\n`)
  } catch {
    response.writeHead(401).end()
  }
}).listen(process.env.PORT, '127.0.0.1')
