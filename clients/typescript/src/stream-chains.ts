/**
 * What a reader checks of every entry that it is delivered.
 *
 * Invariant: `extend` takes an entry only if the entry has the next number of its stream, its header hashes to its hash
 * and names the hash before, its content matches the hash in the header, and the fields beside the header agree with the
 * header. After a restore or a move of its home, a stream continues from an entry that names the base; the entries
 * received beyond that base are lost.
 */
import { type LexValue, fromBase64, toBase64 } from '@atproto/lex-data'
import { base32, decodeMap, encode, equal, hash } from './bytes.ts'
import type { event } from './lexicons/blue/catbird.ts'

/** An entry of a stream, as getMessages shows it. */
export type PlainEntry = Omit<event.defs.Entry, '$type'> & { cursor?: string }
/** With the place to go on from. */
export type Entry = PlainEntry & { cursor: string }

/** The body as the map that it is, for all kinds but `#message`, which is opaque; none where it is withheld. */
export function bodyOf({ kind, body }: Pick<PlainEntry, 'kind' | 'body'>): Record<string, LexValue> | undefined {
  return body && kind !== '#message' ? decodeMap(body) : undefined
}

/** The newest entry of a stream that was taken. */
export interface Head {
  readonly term: number
  readonly seq: number
  readonly hash: Uint8Array
  /** Whether this account's seat may have ended with it. */
  readonly ended?: true
}

/** What to keep between two runs. JSON can hold it. */
export interface SavedChains {
  cursor?: string
  heads: Record<string, { term: number; seq: number; hash: string; ended?: true }>
}

export type BrokenReason =
  /** It was delivered before. */
  | 'Repeated'
  /** It came after an earlier entry than the one before it. */
  | 'Missing'
  /** It does not hash to its hash, does not name the hash before it, or its content is not the one that it names. */
  | 'Unchained'
  /** Its term is another, and it does not say from where that goes on. */
  | 'Term'
  /** It is the first of its stream, and the stream is not named after it. */
  | 'Genesis'
  /** A field says something else than the header. */
  | 'Disagrees'
  | 'Malformed'

/** A server that breaks the chain, and the proof. */
export class BrokenChain extends Error {
  override readonly name = 'BrokenChain'
  readonly reason: BrokenReason
  /** As it was delivered. */
  readonly entry: PlainEntry
  /** What this client had taken of the stream before. */
  readonly head: Head | undefined

  constructor(reason: BrokenReason, entry: PlainEntry, head: Head | undefined) {
    super(`entry ${entry.seq} of stream ${entry.stream} breaks the chain: ${reason}`)
    this.reason = reason
    this.entry = entry
    this.head = head
  }
}

/** What a restore of its home took from a stream: entries after `after`, up to `upTo`, were received and are gone. */
export interface Lost {
  readonly after: number
  readonly upTo: number
}

const ZERO = new Uint8Array(32)
/** A cursor is opaque, and no longer than this. */
const CURSOR_BYTES = 512
const byteLength = (text: string) => new TextEncoder().encode(text).length

export class StreamChains {
  readonly account: string
  #cursor: string | undefined
  readonly #heads = new Map<string, Head>()

  /** `cursor`: where reading begins. '0' is everything that is kept, none is the present. */
  constructor(account: string, cursor?: string) {
    this.account = account
    this.#cursor = cursor
  }

  static restore(account: string, saved: SavedChains): StreamChains {
    const chains = new StreamChains(account, saved.cursor)
    for (const [stream, head] of Object.entries(saved.heads))
      chains.#heads.set(stream, { ...head, hash: fromBase64(head.hash) })
    return chains
  }

  save(): SavedChains {
    const heads = [...this.#heads].map(([stream, head]) => [stream, { ...head, hash: toBase64(head.hash) }] as const)
    return { ...(this.#cursor !== undefined && { cursor: this.#cursor }), heads: Object.fromEntries(heads) }
  }

  /** Where to go on. */
  get cursor(): string | undefined {
    return this.#cursor
  }

  head(stream: string): Head | undefined {
    return this.#heads.get(stream)
  }

  /**
   * Checks an entry and moves on to it. Pages of getMessages, which have no cursor, are checked by chains of their own:
   * what was taken once is not taken again. `dense` is false where the caller asked for some kinds only: then numbers
   * may be left out, and an entry is linked to the one before it only where it directly follows.
   */
  extend(entry: PlainEntry, { dense = true } = {}): Lost | undefined {
    const head = this.#heads.get(entry.stream)
    const broken = (reason: BrokenReason) => new BrokenChain(reason, entry, head)
    const header = decodeMap(entry.header)
    const { prev, content: contentHash } = header ?? {}
    if (!header || !(prev instanceof Uint8Array) || !(contentHash instanceof Uint8Array)) throw broken('Malformed')
    const { cursor } = entry
    if (cursor !== undefined && (cursor === '' || byteLength(cursor) > CURSOR_BYTES)) throw broken('Malformed')

    const base = termBase(entry)
    const restored = head && base && entry.term > head.term && entry.seq <= head.seq
    if (head && !restored) {
      if (entry.seq <= head.seq) throw broken('Repeated')
      const next = entry.seq === head.seq + 1
      // Whoever was removed and comes back is shown nothing of what was between.
      const isBack = head.ended && this.#named(entry, 'adds')
      if (!next && dense && !isBack) throw broken('Missing')
      if (next && !equal(prev, head.hash)) throw broken('Unchained')
      if (next && entry.term !== head.term && !(base && entry.term > head.term)) throw broken('Term')
      if (entry.term < head.term) throw broken('Term')
    }
    if (base && !(base.seq + 1 === entry.seq && equal(base.hash, prev))) throw broken('Term')
    if (!equal(hash('rookery entry v1', entry.header), entry.hash)) throw broken('Unchained')
    const content = contentOf(entry)
    if (content && !equal(hash('rookery content v1', content), contentHash)) throw broken('Unchained')
    if (entry.seq === 1 && !founds(entry, prev)) throw broken('Genesis')
    const { v, stream, term, seq, kind, epoch, time } = header
    const agrees =
      v === 1 &&
      stream === entry.stream &&
      term === entry.term &&
      seq === entry.seq &&
      kind === entry.kind &&
      epoch === entry.epoch &&
      time === Date.parse(entry.time)
    if (!agrees) throw broken('Disagrees')

    const ended = this.#named(entry, 'removes') || this.#left(entry)
    this.#heads.set(entry.stream, { term: entry.term, seq: entry.seq, hash: entry.hash, ...(ended && { ended }) })
    this.#cursor = cursor ?? this.#cursor
    return restored ? { after: entry.seq - 1, upTo: head.seq } : undefined
  }

  /** Whether it is a commit that adds, or removes, a device of this account. */
  #named(entry: PlainEntry, change: 'adds' | 'removes'): boolean {
    const listed = entry.kind === '#commit' ? bodyOf(entry)?.[change] : undefined
    return Array.isArray(listed) && listed.some((one: LexValue) => isMap(one) && one['account'] === this.account)
  }

  #left(entry: PlainEntry): boolean {
    const { account, change } = (entry.kind === '#membership' && bodyOf(entry)) || {}
    return account === this.account && change === 'left'
  }
}

/** The content as its author's server hashed it; none where it is withheld, aged out or erased. */
function contentOf({ body, salt, author, device }: PlainEntry): Uint8Array | undefined {
  return body && salt && encode({ body, salt, ...(author && { author }), ...(device && { device }) })
}

/** From where a term goes on, if the entry opens one. */
function termBase({ kind, body }: PlainEntry): { seq: number; hash: Uint8Array } | undefined {
  if ((kind !== '#homeRestored' && kind !== '#homeOpened') || !body) return undefined
  const { base, baseHash } = decodeMap(body) ?? {}
  return typeof base === 'number' && baseHash instanceof Uint8Array ? { seq: base, hash: baseHash } : undefined
}

/** A stream's id is made of its genesis, so it names its founder. */
function founds({ kind, stream, body }: PlainEntry, prev: Uint8Array): boolean {
  const named = body && `s${base32(hash('rookery stream v1', body).subarray(0, 20))}`
  return kind === '#opened' && equal(prev, ZERO) && (named === undefined || named === stream)
}

const isMap = (value: LexValue): value is Record<string, LexValue> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array)
