// What other people's libraries make of our tokens and keys, and we of theirs. A
// test writes one JSON object a line, and reads one a line: secrets pass by pipes.
import { createInterface } from 'node:readline'
import * as jose from 'jose'
import jsonwebtoken from 'jsonwebtoken'
import jwksRsa from 'jwks-rsa'

const sets = new Map()

// kept returns the client of a key set. It is kept, with the library's own
// defaults, as an application keeps it.
function kept(library, url, make) {
  const name = `${library} ${url}`
  if (!sets.has(name)) sets.set(name, make())
  return sets.get(name)
}

const verifiers = {
  async jose({ token, algorithm, url, secret }) {
    const key = url
      ? kept('jose', url, () => jose.createRemoteJWKSet(new URL(url)))
      : new TextEncoder().encode(secret)
    return (await jose.jwtVerify(token, key, { algorithms: [algorithm] })).payload
  },
  async jsonwebtoken({ token, algorithm, key, secret }) {
    return jsonwebtoken.verify(token, key ?? secret, { algorithms: [algorithm] })
  },
  async 'jwks-rsa'({ token, algorithm, url }) {
    const client = kept('jwks-rsa', url, () => jwksRsa({ jwksUri: url }))
    const key = await client.getSigningKey(jose.decodeProtectedHeader(token).kid)
    return jsonwebtoken.verify(token, key.getPublicKey(), { algorithms: [algorithm] })
  },
  // jwks-rsa fetches and reads the key, and jose verifies: jsonwebtoken has no EdDSA.
  async 'jwks-rsa and jose'({ token, algorithm, url }) {
    const client = kept('jwks-rsa', url, () => jwksRsa({ jwksUri: url }))
    const key = await client.getSigningKey(jose.decodeProtectedHeader(token).kid)
    return (await jose.jwtVerify(token, await jose.importSPKI(key.getPublicKey(), algorithm))).payload
  },
}

const signers = {
  async jose({ claims, algorithm, kid, jwk, secret }) {
    const key = jwk ? await jose.importJWK(JSON.parse(jwk), algorithm) : new TextEncoder().encode(secret)
    return new jose.SignJWT(claims).setProtectedHeader({ alg: algorithm, kid }).sign(key)
  },
  async jsonwebtoken({ claims, algorithm, kid, key, secret }) {
    return jsonwebtoken.sign(claims, key ?? secret, { algorithm, keyid: kid })
  },
}

const operations = {
  verify: (request) => verifiers[request.library](request),
  sign: (request) => signers[request.library](request),
  // generate makes a key for import, and the thumbprint that jose computes of it.
  async generate({ algorithm, bits }) {
    const { privateKey } = await jose.generateKeyPair(algorithm, { extractable: true, modulusLength: bits, crv: 'Ed25519' })
    const jwk = await jose.exportJWK(privateKey)
    return { jwk: JSON.stringify(jwk), thumbprint: await jose.calculateJwkThumbprint(jwk) }
  },
  thumbprint: ({ jwk }) => jose.calculateJwkThumbprint(JSON.parse(jwk)),
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line)
  let answer
  try {
    answer = { result: await operations[request.operation](request) }
  } catch (error) {
    answer = { error: `${error.code ?? error.name}: ${error.message}` }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
}
