/**
 * The device chain of an account: who vouches for whom (docs/decisions/0005).
 *
 * Invariant: a chain begins with one device, trusted on first use, in a genesis that nobody signs. Every later link is
 * signed by a device that stands in the chain at that moment, and names the hash of the link before; a key that was in
 * a chain once never comes into it again. The server holds the same rule.
 */
import type { LexValue } from '@atproto/lex-data'
import { p256 } from '@noble/curves/nist.js'
import { decodeMap, encode, equal, hash, labelled, nameOf } from './bytes.ts'
import { type DeviceKey, type PublicKey, deviceId, isPublicKey, verify } from './keys.ts'

const LINK_LABEL = 'rookery device v1'
const CHAIN_LABEL = 'rookery device chain v1'
const MLS_KEY_LABEL = 'rookery mls key v1'
const MLS_KEYS = 8

/** A further key for a device's MLS leaves, and its signature by which it belongs to this device of this account. */
export type MlsKey = {
  /** Raw, as leaves carry it: 32 bytes Ed25519, or 65 of an uncompressed P-256 point. */
  readonly key: Uint8Array
  readonly proof: Uint8Array
}

/** A device's own key, from which its id follows, and further keys for its MLS leaves. */
export interface DeviceKeys {
  readonly key: PublicKey
  readonly mlsKeys: readonly MlsKey[]
}

/** Signs that `key` is a further MLS key of that device. */
export async function proveMlsKey(key: DeviceKey, account: string, device: string): Promise<MlsKey> {
  const raw = key.alg === 'ES256' ? p256.Point.fromBytes(key.raw).toBytes(false) : key.raw
  return { key: raw, proof: await key.signStatement(MLS_KEY_LABEL, encode({ v: 1, account, device })) }
}

/** Where a chain ends. */
export interface ChainHead {
  readonly generation: number
  readonly seq: number
  readonly hash: Uint8Array
}

export type BadLinkReason =
  /** Not canonical DAG-CBOR of this form. */
  | 'Malformed'
  | 'OtherAccount'
  /** It does not follow the chain's newest. */
  | 'NotNext'
  /** Who signed does not stand in the chain. */
  | 'Signer'
  | 'Signature'
  /** The device's id does not follow from its key. */
  | 'DeviceId'
  /** A key was in the chain before. */
  | 'KeyUsed'
  /** The device does not stand in the chain. */
  | 'Unknown'
  /** A key is no point of its curve, is there twice, or there are too many. */
  | 'Keys'
  /** One of `mlsKeys` did not sign that it belongs to this device of this account. */
  | 'MlsKey'

/** A link that does not fit its chain. */
export class BadLink extends Error {
  override readonly name = 'BadLink'
  readonly reason: BadLinkReason
  /** The link's bytes, where it came as bytes. */
  readonly link: Uint8Array | undefined

  constructor(reason: BadLinkReason, link?: Uint8Array) {
    super(`a link of the device chain does not fit: ${reason}`)
    this.reason = reason
    this.link = link
  }
}

interface Link {
  readonly bytes: Uint8Array
  /** Canonical DAG-CBOR, kept as first made. */
  readonly statement: Uint8Array
  readonly sig: Uint8Array | undefined
}

type Change = { certify: DeviceKeys } | { revoke: string }

export class DeviceChain {
  readonly account: string
  readonly generation: number
  /** Of each link, from the genesis on. */
  readonly #hashes: Uint8Array[] = []
  readonly #standing = new Map<string, DeviceKeys>()
  readonly #used = new Set<string>()

  private constructor(account: string, genesis: Uint8Array) {
    const link = readLink(genesis)
    const says = new Statement(link, ['v', 'account', 'generation', 'device', 'alg', 'publicKey'], ['mlsKeys'])
    if (link.sig) throw new BadLink('Malformed', genesis)
    this.account = says.text('account')
    this.generation = says.number('generation')
    if (this.account !== account) throw new BadLink('OtherAccount', genesis)
    const keys = says.keys()
    if (!areProven(keys, account)) throw new BadLink('MlsKey', genesis)
    this.#apply(link, { certify: keys })
  }

  /** A chain of one device, with the link that founds it. There is no chance in it: everybody makes it alike. */
  static begin(account: string, generation: number, first: DeviceKeys): [DeviceChain, Uint8Array] {
    const statement = { v: 1, account, generation, device: deviceId(first.key.raw), ...keyFields(first) }
    const genesis = encode({ statement: encode(statement) })
    return [new DeviceChain(account, genesis), genesis]
  }

  /** Checks every link, from the genesis on. */
  static read(account: string, links: readonly Uint8Array[]): DeviceChain {
    const [genesis, ...rest] = links
    if (!genesis) throw new BadLink('Malformed')
    const chain = new DeviceChain(account, genesis)
    for (const link of rest) chain.extend(link)
    return chain
  }

  /** The same for links in any order, those of other generations among them. */
  static gather(account: string, generation: number, links: readonly Uint8Array[]): DeviceChain {
    const next = new Map<string, Uint8Array>()
    let chain: DeviceChain | undefined
    for (const bytes of links) {
      const link = readLink(bytes)
      if (link.sig) next.set(nameOf(Statement.of(link).bytes('prev')), bytes)
      else {
        const begun = new DeviceChain(account, bytes)
        if (begun.generation === generation) chain = begun
      }
    }
    if (!chain) throw new BadLink('Malformed')
    for (;;) {
      const link = next.get(nameOf(chain.head.hash))
      if (!link) return chain
      chain.extend(link)
    }
  }

  /** Checks a link, and moves on to it. */
  extend(bytes: Uint8Array): void {
    const link = readLink(bytes)
    const says = Statement.of(link)
    if (!link.sig) throw new BadLink('Malformed', bytes)
    if (says.text('account') !== this.account) throw new BadLink('OtherAccount', bytes)
    const { seq, hash: before } = this.head
    if (says.number('seq') !== seq + 1 || !equal(says.bytes('prev'), before)) throw new BadLink('NotNext', bytes)
    const signer = this.#standing.get(says.text('by'))
    if (!signer) throw new BadLink('Signer', bytes)
    const change = this.#change(says, bytes)
    if (!verify(signer.key, labelled(LINK_LABEL, link.statement), link.sig)) throw new BadLink('Signature', bytes)
    if ('certify' in change && !areProven(change.certify, this.account)) throw new BadLink('MlsKey', bytes)
    this.#apply(link, change)
  }

  #change(says: Statement, bytes: Uint8Array): Change {
    switch (says.text('change')) {
      case 'certify': {
        const keys = says.keys()
        if (all(keys).some((key) => this.#used.has(nameOf(key)))) throw new BadLink('KeyUsed', bytes)
        return { certify: keys }
      }
      case 'revoke': {
        if (['alg', 'publicKey', 'mlsKeys'].some((field) => says.has(field))) throw new BadLink('Malformed', bytes)
        const device = says.text('device')
        if (!this.#standing.has(device)) throw new BadLink('Unknown', bytes)
        return { revoke: device }
      }
      default:
        throw new BadLink('Malformed', bytes)
    }
  }

  #apply(link: Link, change: Change): void {
    if ('certify' in change) {
      for (const key of all(change.certify)) this.#used.add(nameOf(key))
      this.#standing.set(deviceId(change.certify.key.raw), change.certify)
    } else {
      this.#standing.delete(change.revoke)
    }
    this.#hashes.push(hash(CHAIN_LABEL, link.statement))
  }

  get head(): ChainHead {
    const newest = this.#hashes.at(-1) ?? new Uint8Array(32)
    return { generation: this.generation, seq: this.#hashes.length, hash: newest }
  }

  /** Whether this chain went through that head: one that did not is another chain. */
  wentThrough(head: ChainHead): boolean {
    const there = this.#hashes[head.seq - 1]
    return this.generation === head.generation && there !== undefined && equal(there, head.hash)
  }

  /** The keys of a device that stands in the chain. */
  device(id: string): DeviceKeys | undefined {
    return this.#standing.get(id)
  }

  /** The ids of those that stand. */
  get devices(): string[] {
    return [...this.#standing.keys()]
  }

  /** The next link, by which `by` vouches for these keys. */
  certify(by: DeviceKey, keys: DeviceKeys): Promise<Uint8Array> {
    return this.#sign(by, 'certify', deviceId(keys.key.raw), keyFields(keys))
  }

  /** The next link, by which `by` ends a device, which may be itself. */
  revoke(by: DeviceKey, device: string): Promise<Uint8Array> {
    return this.#sign(by, 'revoke', device, {})
  }

  async #sign(by: DeviceKey, change: string, device: string, keys: Record<string, LexValue>): Promise<Uint8Array> {
    const { seq, hash: prev } = this.head
    const fields = { v: 1, account: this.account, seq: seq + 1, prev, change, device, by: by.id, ...keys }
    const statement = encode(fields)
    return encode({ statement, sig: await by.signStatement(LINK_LABEL, statement) })
  }
}

/** A statement of known form: every field is there with its type, and no other field is. */
class Statement {
  readonly #link: Link
  readonly #fields: Record<string, LexValue>

  constructor(link: Link, required: string[], optional: string[]) {
    const fields = decodeMap(link.statement)
    const known = (name: string) => required.includes(name) || optional.includes(name)
    if (!fields || !required.every((name) => name in fields) || !Object.keys(fields).every(known) || fields['v'] !== 1)
      throw new BadLink('Malformed', link.bytes)
    this.#link = link
    this.#fields = fields
  }

  /** Of every link but the first. */
  static of(link: Link): Statement {
    return new Statement(
      link,
      ['v', 'account', 'seq', 'prev', 'change', 'device', 'by'],
      ['alg', 'publicKey', 'mlsKeys'],
    )
  }

  has(name: string): boolean {
    return name in this.#fields
  }

  text(name: string): string {
    const value = this.#fields[name]
    return typeof value === 'string' ? value : this.#malformed()
  }

  number(name: string): number {
    const value = this.#fields[name]
    return typeof value === 'number' && value >= 0 ? value : this.#malformed()
  }

  bytes(name: string): Uint8Array {
    const value = this.#fields[name]
    return value instanceof Uint8Array ? value : this.#malformed()
  }

  keys(): DeviceKeys {
    const [alg, raw, listed] = [this.text('alg'), this.bytes('publicKey'), this.#fields['mlsKeys'] ?? []]
    const mlsKeys = Array.isArray(listed) ? (listed as LexValue[]) : this.#malformed()
    if (!mlsKeys.every(isMlsKey)) this.#malformed()
    // An empty list has one form: none.
    if (this.has('mlsKeys') && mlsKeys.length === 0) this.#malformed()
    if (!['EdDSA', 'ES256', 'ES256K'].includes(alg)) this.#malformed()
    if (!isPublicKey(alg, raw)) throw new BadLink('Keys', this.#link.bytes)
    if (deviceId(raw) !== this.text('device')) throw new BadLink('DeviceId', this.#link.bytes)
    const keys: DeviceKeys = { key: { alg, raw }, mlsKeys: mlsKeys as MlsKey[] }
    if (!areKeys(keys)) throw new BadLink('Keys', this.#link.bytes)
    return keys
  }

  #malformed(): never {
    throw new BadLink('Malformed', this.#link.bytes)
  }
}

function readLink(bytes: Uint8Array): Link {
  const link = decodeMap(bytes)
  const { statement, sig, ...rest } = link ?? {}
  const fits = statement instanceof Uint8Array && (sig === undefined || sig instanceof Uint8Array)
  if (!fits || Object.keys(rest).length > 0) throw new BadLink('Malformed', bytes)
  return { bytes, statement, sig: sig as Uint8Array | undefined }
}

const all = (keys: DeviceKeys): Uint8Array[] => [keys.key.raw, ...keys.mlsKeys.map(({ key }) => key)]

const keyFields = ({ key, mlsKeys }: DeviceKeys): Record<string, LexValue> => ({
  alg: key.alg,
  publicKey: key.raw,
  ...(mlsKeys.length > 0 && { mlsKeys: mlsKeys.map(({ key, proof }) => ({ key, proof })) }),
})

function areKeys(keys: DeviceKeys): boolean {
  const distinct = new Set(all(keys).map(nameOf)).size === 1 + keys.mlsKeys.length
  return distinct && keys.mlsKeys.length <= MLS_KEYS && keys.mlsKeys.every(({ key }) => curveOf(key) !== undefined)
}

/** A key and its proof, and nothing else. */
function isMlsKey(value: LexValue): boolean {
  if (typeof value !== 'object' || value === null) return false
  const { key, proof, ...rest } = value as Record<string, LexValue>
  return key instanceof Uint8Array && proof instanceof Uint8Array && Object.keys(rest).length === 0
}

/** The key as signatures are verified with it; nothing for bytes that are no point of a curve that leaves have. */
function curveOf(raw: Uint8Array): PublicKey | undefined {
  try {
    if (raw.length === 65 && raw[0] === 4) return { alg: 'ES256', raw: p256.Point.fromBytes(raw).toBytes(true) }
  } catch {
    return undefined
  }
  return isPublicKey('EdDSA', raw) ? { alg: 'EdDSA', raw } : undefined
}

/** Whether each further key signed that it belongs to this device of that account. */
function areProven(keys: DeviceKeys, account: string): boolean {
  const signed = labelled(MLS_KEY_LABEL, encode({ v: 1, account, device: deviceId(keys.key.raw) }))
  return keys.mlsKeys.every(({ key, proof }) => {
    const point = curveOf(key)
    return point !== undefined && verify(point, signed, proof)
  })
}
