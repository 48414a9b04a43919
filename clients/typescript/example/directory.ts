/** An account with an identity of its own: a did:web on loopback, whose document this process serves, without a PDS. */
import { randomUUID } from 'node:crypto'
import { type Server as HttpServer, createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { base58btc } from 'multiformats/bases/base58'
import { DeviceKey } from '../src/index.ts'

export interface Account {
  did: string
  /** What the account's PDS would do: a service token for one call. */
  mint: (lxm: string, aud: string) => Promise<string>
  close: () => void
}

/** Opens an account. Its signing key is P-256, as accounts may have. */
export async function openAccount(): Promise<Account> {
  const key = await DeviceKey.generate('ES256')
  const http = createServer((request, response) => {
    if (request.url !== '/.well-known/did.json') return void response.writeHead(404).end()
    response.setHeader('content-type', 'application/json').end(JSON.stringify(document(did, key)))
  })
  const did = `did:web:localhost%3A${await listen(http)}`
  const mint = async (lxm: string, aud: string) => {
    const iat = Math.floor(Date.now() / 1000)
    const parts = [
      { typ: 'JWT', alg: 'ES256' },
      { iss: did, aud, lxm, iat, exp: iat + 60, jti: randomUUID() },
    ]
    const signed = parts.map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
    return `${signed}.${Buffer.from(await key.sign(new TextEncoder().encode(signed))).toString('base64url')}`
  }
  return { did, mint, close: () => http.close().closeAllConnections() }
}

/** On a free port of loopback, by the name that the DID has. */
function listen(http: HttpServer): Promise<number> {
  return new Promise((resolve) => http.listen(0, 'localhost', () => resolve((http.address() as AddressInfo).port)))
}

function document(did: string, key: DeviceKey): object {
  // A Multikey: the multicodec of P-256, and the compressed point.
  const publicKeyMultibase = base58btc.encode(Uint8Array.of(0x80, 0x24, ...key.raw))
  return {
    '@context': ['https://www.w3.org/ns/did/v1'],
    id: did,
    verificationMethod: [{ id: `${did}#atproto`, type: 'Multikey', controller: did, publicKeyMultibase }],
  }
}
