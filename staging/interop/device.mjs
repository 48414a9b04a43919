// A device: an Ed25519 key, its id, and the tokens that it signs, all by WebCrypto.
import { createHash, randomUUID, webcrypto } from 'node:crypto'
import { encode } from '@atproto/lex-cbor'
import { base32 } from 'multiformats/bases/base32'

const text = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
const sha256 = (bytes) => createHash('sha256').update(bytes).digest()

export class Device {
  #key

  /** `account` is a DID, `audience` the DID of the server. */
  static async create(account, audience) {
    const device = new Device()
    const pair = await webcrypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])
    device.#key = pair.privateKey
    device.account = account
    device.audience = audience
    device.publicKey = new Uint8Array(await webcrypto.subtle.exportKey('raw', pair.publicKey))
    device.id = `dev_${base32.baseEncode(sha256(device.publicKey)).slice(0, 26)}`
    return device
  }

  /** For the MLS implementation: the device's key signs its leaves too. */
  async signatureKeys() {
    const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', this.#key)
    return { signKey: new Uint8Array(pkcs8), publicKey: this.publicKey }
  }

  /** What createPairing takes for this device, which belongs to no account yet. */
  async pairingRequest() {
    const issuedAt = Math.floor(Date.now() / 1000)
    const statement = encode({ v: 1, audience: this.audience, issuedAt, kind: 'app' })
    const signed = Buffer.concat([Buffer.from('rookery pairing request v1\0'), statement])
    const proof = new Uint8Array(await webcrypto.subtle.sign('Ed25519', this.#key, signed))
    return { publicKey: this.publicKey, kind: 'app', issuedAt, proof }
  }

  /** A fresh token for one call; with `body` it is bound to exactly those bytes. `claims` and `header` replace what it would say. */
  async token(lxm, { body, claims = {}, header = {} } = {}) {
    const now = Math.floor(Date.now() / 1000)
    const says = {
      iss: this.account,
      aud: this.audience,
      lxm,
      iat: now,
      exp: now + 60,
      jti: randomUUID(),
      ...(body === undefined ? {} : { bodyHash: sha256(body).toString('base64url') }),
      ...claims,
    }
    const signed = `${text({ typ: 'rookery-device+jwt', alg: 'EdDSA', kid: this.id, ...header })}.${text(says)}`
    const signature = await webcrypto.subtle.sign('Ed25519', this.#key, Buffer.from(signed))
    return `${signed}.${Buffer.from(signature).toString('base64url')}`
  }
}
