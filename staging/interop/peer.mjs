// Another server, as far as a Rookery can see: a did:web with its document, requests signed by an RFC 9421 implementation
// that is not ours, and whatever is sent to it. It answers nothing but its document.
import { createHash, createPrivateKey, createPublicKey, randomBytes, sign, verify } from 'node:crypto'
import { createServer } from 'node:http'
import { base32 } from 'multiformats/bases/base32'
import { base58btc } from 'multiformats/bases/base58'
import { httpbis } from 'http-message-signatures'

/** What stands before the raw bytes of an Ed25519 key in PKCS #8. */
const PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex')
/** What stands before the raw bytes of a public Ed25519 key in a Multikey, and in SPKI. */
const MULTICODEC = Buffer.from([0xed, 0x01])
const SPKI = Buffer.from('302a300506032b6570032100', 'hex')
const PARAMETERS = ['created', 'expires', 'nonce', 'keyid', 'tag']

/** An Ed25519 key from 32 bytes. */
export function keyFrom(seed) {
  const secret = createPrivateKey({ key: Buffer.concat([PKCS8, seed]), format: 'der', type: 'pkcs8' })
  const raw = createPublicKey(secret).export({ format: 'der', type: 'spki' }).subarray(SPKI.length)
  return {
    raw,
    multikey: base58btc.encode(Buffer.concat([MULTICODEC, raw])),
    tag: base32.encode(createHash('sha256').update(raw).digest()).slice(1, 9),
    sign: async (data) => sign(null, data, secret),
  }
}

/** What `http-message-signatures` asks, for an Ed25519 key in Multikey form. */
export function verifier(multikey) {
  const bytes = Buffer.from(base58btc.decode(multikey))
  if (!bytes.subarray(0, 2).equals(MULTICODEC)) throw new Error('no Ed25519 key')
  const key = createPublicKey({ key: Buffer.concat([SPKI, bytes.subarray(2)]), format: 'der', type: 'spki' })
  return async (data, signature) => verify(null, data, key, signature)
}

export const digest = (body) => `sha-256=:${createHash('sha256').update(body).digest('base64')}:`

/** Signs `{method, url, headers}` over all its headers; `values` are the signature's parameters. */
export async function signRequest(key, message, values) {
  const fields = ['@method', '@target-uri', ...Object.keys(message.headers)]
  const config = { key: { sign: key.sign }, name: 'peer', fields, params: PARAMETERS, paramValues: values }
  return httpbis.signMessage(config, message)
}

export class Peer {
  /** On a port that the system chose. */
  static async start() {
    const peer = new Peer()
    peer.key = keyFrom(randomBytes(32))
    peer.checkpoint = keyFrom(randomBytes(32))
    peer.heard = []
    peer.server = createServer((request, answer) => peer.#hear(request, answer))
    await new Promise((done) => peer.server.listen(0, '127.0.0.1', done))
    const { port } = peer.server.address()
    peer.url = `http://localhost:${port}`
    peer.did = `did:web:localhost%3A${port}`
    return peer
  }

  get document() {
    const method = (use, key) => ({
      id: `${this.did}#${use}-${key.tag}`,
      type: 'Multikey',
      controller: this.did,
      publicKeyMultibase: key.multikey,
    })
    return {
      id: this.did,
      verificationMethod: [method('peer', this.key), method('checkpoint', this.checkpoint)],
      service: [{ id: `${this.did}#atproto_mls`, type: 'AtprotoMlsService', serviceEndpoint: this.url }],
    }
  }

  async #hear(request, answer) {
    const parts = []
    for await (const part of request) parts.push(part)
    const { method, url, headers } = request
    answer.setHeader('content-type', 'application/json')
    if (url === '/.well-known/did.json') return answer.end(JSON.stringify(this.document))
    this.heard.push({ method, url: this.url + url, headers, body: Buffer.concat(parts) })
    answer.statusCode = 501
    answer.end(JSON.stringify({ error: 'MethodNotImplemented', message: 'this server answers nothing' }))
  }

  /** A request as this server would send it; `change` may spoil it after it was signed, `values` before. */
  async request(rookery, nsid, { params, input, actor, device, values = {}, change = (request) => request } = {}) {
    const body = input === undefined ? '' : JSON.stringify(input)
    const query = params ? `?${new URLSearchParams(params)}` : ''
    const headers = { 'content-digest': digest(body) }
    if (body) headers['content-type'] = 'application/json'
    headers['x-rookery-audience'] = rookery.did
    if (actor) headers['x-rookery-actor'] = actor
    if (device) headers['x-rookery-device'] = device
    const now = new Date()
    const message = { method: body ? 'POST' : 'GET', url: `${rookery.url}/xrpc/${nsid}${query}`, headers }
    const signed = await signRequest(this.key, message, {
      created: now,
      expires: new Date(now.getTime() + 60_000),
      nonce: randomBytes(16).toString('base64url'),
      keyid: `${this.did}#peer-${this.key.tag}`,
      tag: 'rookery-peer-v1',
      ...values,
    })
    return change({ ...signed, body })
  }

  /** Sends it: the status, and what was said. */
  async send({ method, url, headers, body }) {
    const answer = await fetch(url, { method, headers, body: body || undefined })
    const text = await answer.text()
    return { status: answer.status, body: text ? JSON.parse(text) : undefined }
  }

  async stop() {
    this.server.closeAllConnections()
    await new Promise((done) => this.server.close(done))
  }
}
