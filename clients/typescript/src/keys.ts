/**
 * The key that a device is: it signs tokens, links of the device chain, and the device's MLS leaves.
 *
 * Signing is WebCrypto's, so that a key may stay where nobody can read it. Verifying is @noble/curves': WebCrypto has
 * no K-256, and judges neither high S nor Ed25519 alike everywhere.
 */
import { fromBase64 } from '@atproto/lex-data'
import { ed25519 } from '@noble/curves/ed25519.js'
import { p256 } from '@noble/curves/nist.js'
import { secp256k1 } from '@noble/curves/secp256k1.js'
import { sha512 } from '@noble/hashes/sha2.js'
import { bytesToHex } from '@noble/hashes/utils.js'
import { base32, base64url, concat, labelled, sha256 } from './bytes.ts'

/** A key's algorithm by its JWS name. Devices of this client sign with the first two; others may have the third. */
export type Alg = 'EdDSA' | 'ES256' | 'ES256K'

/** Raw: 32 bytes Ed25519, 33 bytes compressed P-256 or K-256. */
export interface PublicKey {
  readonly alg: Alg
  readonly raw: Uint8Array
}

/** `dev_` and 26 characters of base32: one key is one device everywhere. */
export const deviceId = (publicKey: Uint8Array): string => `dev_${base32(sha256(publicKey)).slice(0, 26)}`

/** Whether the bytes are a point of the curve in its one form, not of small order. */
export function isPublicKey(alg: string, raw: Uint8Array): alg is Alg {
  try {
    switch (alg) {
      case 'EdDSA':
        return raw.length === 32 && !ed25519.Point.fromBytes(raw, false).isSmallOrder()
      case 'ES256':
        return raw.length === 33 && Boolean(p256.Point.fromBytes(raw))
      case 'ES256K':
        return raw.length === 33 && Boolean(secp256k1.Point.fromBytes(raw))
      default:
        return false
    }
  } catch {
    return false
  }
}

/** Judged strictly: 64 bytes, low S, RFC 8032. */
export function verify(key: PublicKey, message: Uint8Array, signature: Uint8Array): boolean {
  try {
    if (signature.length !== 64) return false
    switch (key.alg) {
      case 'EdDSA':
        return ed25519.verify(signature, message, key.raw, { zip215: false }) && isExact(key.raw, message, signature)
      case 'ES256':
        return p256.verify(signature, message, key.raw, { lowS: true, format: 'compact' })
      case 'ES256K':
        return secp256k1.verify(signature, message, key.raw, { lowS: true, format: 'compact' })
    }
  } catch {
    return false
  }
}

/**
 * RFC 8032's equation without the cofactor, and no R of small order: the library leaves both open, the server does not,
 * and a signature that one takes and the other does not would make two chains of one.
 */
function isExact(key: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  const { Point } = ed25519
  const r = signature.subarray(0, 32)
  const [scalar, challenge] = [signature.subarray(32), sha512(concat([r, key, message]))].map((bytes) =>
    BigInt('0x' + bytesToHex(bytes.toReversed())),
  ) as [bigint, bigint]
  const R = Point.fromBytes(r, false)
  const expected = Point.BASE.multiplyUnsafe(scalar)
  const found = R.add(Point.fromBytes(key, false).multiplyUnsafe(Point.Fn.create(challenge)))
  return !R.isSmallOrder() && expected.equals(found)
}

const algorithms = {
  EdDSA: { make: { name: 'Ed25519' }, sign: { name: 'Ed25519' } },
  ES256: { make: { name: 'ECDSA', namedCurve: 'P-256' }, sign: { name: 'ECDSA', hash: 'SHA-256' } },
} as const

/** The curves that WebCrypto has. */
export type SigningAlg = keyof typeof algorithms

/** One device's key pair. Where it is kept is the caller's: `pair` goes into IndexedDB, `exportSecret` elsewhere. */
export class DeviceKey implements PublicKey {
  readonly alg: SigningAlg
  readonly raw: Uint8Array
  readonly pair: CryptoKeyPair

  private constructor(alg: SigningAlg, raw: Uint8Array, pair: CryptoKeyPair) {
    this.alg = alg
    this.raw = raw
    this.pair = pair
  }

  /** `extractable: false` keeps the secret inside of WebCrypto; MLS libraries mostly need it outside. */
  static async generate(alg: SigningAlg = 'EdDSA', { extractable = true } = {}): Promise<DeviceKey> {
    const pair = await crypto.subtle.generateKey(algorithms[alg].make, extractable, ['sign', 'verify'])
    return DeviceKey.fromPair(pair as CryptoKeyPair)
  }

  /** `secret` is 32 bytes: the seed of Ed25519, the scalar of P-256. */
  static async import(alg: SigningAlg, secret: Uint8Array, { extractable = true } = {}): Promise<DeviceKey> {
    if (secret.length !== 32) throw new TypeError('a secret key has 32 bytes')
    const point = alg === 'EdDSA' ? ed25519.getPublicKey(secret) : p256.getPublicKey(secret, false)
    const shape =
      alg === 'EdDSA'
        ? { kty: 'OKP', crv: 'Ed25519', x: base64url(point) }
        : { kty: 'EC', crv: 'P-256', x: base64url(point.subarray(1, 33)), y: base64url(point.subarray(33)) }
    const { make } = algorithms[alg]
    const [privateKey, publicKey] = await Promise.all([
      crypto.subtle.importKey('jwk', { ...shape, d: base64url(secret) }, make, extractable, ['sign']),
      crypto.subtle.importKey('jwk', shape, make, true, ['verify']),
    ])
    return DeviceKey.fromPair({ privateKey, publicKey })
  }

  static async fromPair(pair: CryptoKeyPair): Promise<DeviceKey> {
    const alg = pair.privateKey.algorithm.name === 'Ed25519' ? 'EdDSA' : 'ES256'
    const raw = new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey))
    return new DeviceKey(alg, alg === 'EdDSA' ? raw : p256.Point.fromBytes(raw).toBytes(true), pair)
  }

  /** The id that follows from the public key. */
  get id(): string {
    return deviceId(this.raw)
  }

  /** The form that `import` takes. */
  async exportSecret(): Promise<Uint8Array> {
    const { d } = await crypto.subtle.exportKey('jwk', this.pair.privateKey)
    return fromBase64(d ?? '', 'base64url')
  }

  /** 64 bytes, always with a low S. */
  async sign(message: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
    const made = await crypto.subtle.sign(algorithms[this.alg].sign, this.pair.privateKey, message)
    const signature = new Uint8Array(made)
    if (this.alg === 'EdDSA') return signature
    const { r, s } = p256.Signature.fromBytes(signature, 'compact')
    const high = new p256.Signature(r, s).hasHighS()
    return new p256.Signature(r, high ? p256.Point.Fn.neg(s) : s).toBytes('compact')
  }

  /** Signs a statement under a label. */
  signStatement(label: string, statement: Uint8Array): Promise<Uint8Array> {
    return this.sign(labelled(label, statement))
  }
}
