/**
 * How a second device comes into an account (docs/decisions/0006, 0020).
 *
 * The new device shows a code that holds its key, and a second key that only the code shows: the payload is sealed to
 * that one, so neither the server nor a PDS can make one, or open it. A certified device reads the code from the screen
 * and vouches for the key in it. The new device claims by proof of its key.
 */
import { Client } from '@atproto/lex-client'
import { fromBase64 } from '@atproto/lex-data'
import { Aes128Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from '@hpke/core'
import { listDevices } from './account.ts'
import { type Server, anyone, asDevice } from './agents.ts'
import { base64url, concat, decodeMap, encode, equal, idem, labelled } from './bytes.ts'
import type { DeviceChain } from './device-chain.ts'
import { isRefused } from './errors.ts'
import { type DeviceKey, type PublicKey, deviceId, isPublicKey } from './keys.ts'
import { account as methods } from './lexicons/blue/catbird.ts'
import { sleep } from './repeat.ts'
import type { Device } from './tokens.ts'

const REQUEST_LABEL = 'rookery pairing request v1'
const CLAIM_LABEL = 'rookery pairing claim v1'
const PAYLOAD_LABEL = 'rookery pairing payload v1'
const CODE_PREFIX = 'rookery-pair:'
/** HPKE (RFC 9180), base mode: X25519, HKDF-SHA256, AES-128-GCM. */
const hpke = new CipherSuite({ kem: new DhkemX25519HkdfSha256(), kdf: new HkdfSha256(), aead: new Aes128Gcm() })
const SEAL_KEY_BYTES = 32

/** What the new device shows, and nothing but a screen or a camera may carry. */
export interface PairingCode {
  readonly pairing: string
  /** The server's DID. */
  readonly server: string
  readonly key: PublicKey
  /** X25519, 32 bytes, made for this pairing. */
  readonly sealKey: Uint8Array
}

/** The new device's side of a pairing that waits to be approved. */
export interface Pairing {
  readonly code: PairingCode
  readonly expiresAt: Date
  readonly opens: CryptoKey
}

export class PairingFailed extends Error {
  override readonly name = 'PairingFailed'
}

/** The code as text, for a QR code. */
export function pairingText({ pairing, server, key, sealKey }: PairingCode): string {
  return CODE_PREFIX + base64url(encode({ v: 1, pairing, server, alg: key.alg, key: key.raw, seal: sealKey }))
}

export function readPairingText(text: string): PairingCode {
  const { v, pairing, server, alg, key, seal } = fieldsOf(text) ?? {}
  if (
    v !== 1 ||
    typeof pairing !== 'string' ||
    typeof server !== 'string' ||
    typeof alg !== 'string' ||
    !(key instanceof Uint8Array && isPublicKey(alg, key)) ||
    !(seal instanceof Uint8Array && seal.length === SEAL_KEY_BYTES)
  )
    throw new PairingFailed('this is no pairing code that this client can read')
  return { pairing, server, key: { alg, raw: key }, sealKey: seal }
}

function fieldsOf(text: string) {
  try {
    return text.startsWith(CODE_PREFIX) ? decodeMap(fromBase64(text.slice(CODE_PREFIX.length), 'base64url')) : undefined
  } catch {
    return undefined
  }
}

/** The new device opens a pairing. It belongs to no account yet. */
export async function beginPairing(
  server: Server,
  key: DeviceKey,
  about: { kind: 'app' | 'machine'; name?: Uint8Array; platform?: string },
): Promise<Pairing> {
  const issuedAt = Math.floor(Date.now() / 1000)
  const request = encode({ v: 1, audience: server.did, issuedAt, ...about })
  const proof = await key.signStatement(REQUEST_LABEL, request)
  const body = { ...about, publicKey: key.raw, alg: key.alg, issuedAt, proof }
  const answer = await new Client(anyone(server)).call(methods.createPairing, body)
  const { publicKey, privateKey } = await hpke.kem.generateKeyPair()
  const sealKey = new Uint8Array(await hpke.kem.serializePublicKey(publicKey))
  const code = { pairing: answer.pairing, server: server.did, key: { alg: key.alg, raw: key.raw }, sealKey }
  return { code, expiresAt: new Date(answer.expiresAt), opens: privateKey }
}

/** A certified device vouches for the device that shows the code, and leaves it `payload`, at most 4048 bytes. */
export async function approvePairing(
  client: Client,
  server: Server,
  by: Device,
  chain: DeviceChain,
  code: PairingCode,
  payload: Uint8Array,
): Promise<string> {
  if (code.server !== server.did) throw new PairingFailed('the code is for another server')
  const certificate = await chain.certify(by.key, { key: code.key, mlsKeys: [] })
  const recipientPublicKey = await hpke.kem.deserializePublicKey(buffer(code.sealKey))
  const sealed = await hpke.seal({ recipientPublicKey, info: info(code, by.account) }, buffer(payload))
  const body = {
    pairing: code.pairing,
    certificate,
    payload: concat([new Uint8Array(sealed.enc), new Uint8Array(sealed.ct)]),
  }
  return (await client.call(methods.approvePairing, body)).device
}

export interface Paired {
  readonly device: Device
  /** The id of the account's own stream. */
  readonly stream: string
  readonly payload: Uint8Array
  /** Checked: this device stands in it. */
  readonly chain: DeviceChain
}

/**
 * The new device waits until it is approved, and takes what was left for it. Whoever saw the code may have approved it
 * for an account of their own: `account` is whom it must be for, or show `device.account` to the user before all else.
 */
export async function claimPairing(
  server: Server,
  key: DeviceKey,
  { code, expiresAt, opens }: Pairing,
  options: { account?: string; everyMs?: number; signal?: AbortSignal } = {},
): Promise<Paired> {
  const name = idem()
  const claim = encode({ v: 1, pairing: code.pairing, audience: server.did, idem: name })
  const body = { pairing: code.pairing, idem: name, proof: await key.signStatement(CLAIM_LABEL, claim) }
  const answer = await approved(server, body, expiresAt, options)
  if (answer.device !== key.id) throw new PairingFailed('it was answered for another device')
  if (options.account !== undefined && answer.account !== options.account)
    throw new PairingFailed('it was approved for another account')

  const device = { account: answer.account, key }
  const { chain } = await listDevices(new Client(asDevice(server, device)), device.account)
  const standing = chain.device(key.id)
  if (!standing || !equal(standing.key.raw, key.raw))
    throw new PairingFailed('the chain does not vouch for this device')
  const payload = await opened(answer.payload, opens, info(code, answer.account))
  return { device, stream: answer.stream, payload, chain }
}

async function approved(
  server: Server,
  body: methods.claimPairing.$InputBody,
  expiresAt: Date,
  { everyMs = 2000, signal }: { everyMs?: number; signal?: AbortSignal },
): Promise<methods.claimPairing.$OutputBody> {
  const client = new Client(anyone(server))
  for (;;) {
    try {
      return await client.call(methods.claimPairing, body, { signal })
    } catch (error) {
      if (!isRefused(error, methods.claimPairing, 'PairingPending') || Date.now() > expiresAt.getTime()) throw error
    }
    await sleep(everyMs, signal)
  }
}

async function opened(payload: Uint8Array, recipientKey: CryptoKey, info: ArrayBuffer): Promise<Uint8Array> {
  try {
    const enc = buffer(payload.subarray(0, SEAL_KEY_BYTES))
    return new Uint8Array(await hpke.open({ recipientKey, enc, info }, buffer(payload.subarray(SEAL_KEY_BYTES))))
  } catch {
    throw new PairingFailed('the payload was not sealed by who saw the code')
  }
}

/** Binds a payload to its pairing, server, device and account. */
function info({ pairing, server, key }: PairingCode, account: string): ArrayBuffer {
  return buffer(labelled(PAYLOAD_LABEL, encode({ v: 1, pairing, server, device: deviceId(key.raw), account })))
}

/** A buffer of these bytes alone: Node's are often part of a larger one. */
const buffer = (bytes: Uint8Array): ArrayBuffer => new Uint8Array(bytes).buffer
