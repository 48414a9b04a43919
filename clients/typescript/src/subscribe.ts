/**
 * Everything that happens in an account's streams, over a WebSocket, for as long as somebody listens.
 *
 * Invariant: what is given was checked against everything given before, across connections: each resumes after the last
 * entry, so nothing is missing and nothing comes twice, or it is `BrokenChain`. Connecting again, its back-off (1, 2, 4
 * … 64 s with jitter), pings and backpressure are @atproto/ws-client's.
 */
import { Client, XrpcError } from '@atproto/lex-client'
import { decodeAll } from '@atproto/lex-cbor'
import type { LexValue } from '@atproto/lex-data'
import { HEADERS_SUPPORTED_PLATFORM, websocket } from '@atproto/ws-client'
import { type Server, asDevice } from './agents.ts'
import { event } from './lexicons/blue/catbird.ts'
import { sleep } from './repeat.ts'
import { type Entry, type Lost, StreamChains } from './stream-chains.ts'
import { type Device, deviceToken } from './tokens.ts'

/** What came. */
export type Received =
  /** An entry, checked. `lost` is there if a restore of the server took something that was received before. */
  | { type: 'entry'; entry: Entry; lost?: Lost }
  /** Another device of the account read on. */
  | { type: 'cursor'; stream: string; seq: number }
  /** A notice of the server, such as `OutdatedCursor`: contents of what follows are no longer kept, or were lost. */
  | { type: 'info'; name: string; message?: string }
  /** Something that is not stored and that this client does not know. */
  | { type: 'unknown'; kind: string }

export interface SubscribeOptions {
  /** What this client knows: where to go on from, and what each entry is checked against. */
  chains: StreamChains
  /** Only these streams. */
  streams?: string[]
  /** Only these kinds, such as `#message`. What is left out cannot be missed, so gaps are not found then. */
  kinds?: string[]
  signal?: AbortSignal
  /** By a token in a header where the platform can send one; else, in browsers, by a ticket in the query. */
  proof?: 'header' | 'ticket'
  /** Where tickets are asked for: by the device, directly, if absent. */
  client?: Client
  /** Told of each connection that is lost, and of each refusal after which another is tried. */
  onReconnect?: (why: unknown) => void
  /** Told of each connection. */
  onConnect?: () => void
  /** In browsers, which show no pings: a socket that says nothing for so long is given up, in milliseconds. */
  idleTimeoutMs?: number
}

/** The server ended the subscription, by a name: `FutureCursor`, `DeviceRevoked`, `SubscriptionClosed` … */
export class SubscriptionRefused extends Error {
  override readonly name = 'SubscriptionRefused'
  readonly error: string

  constructor(error: string, message: string) {
    super(`the server ended the subscription: ${error}: ${message}`)
    this.error = error
  }
}

/** A frame that is not what the protocol says. */
export class BadFrame extends Error {
  override readonly name = 'BadFrame'
  readonly frame: Uint8Array | string

  constructor(why: string, frame: Uint8Array | string) {
    super(`a frame is not what the protocol says: ${why}`)
    this.frame = frame
  }
}

/** After these another connection may do better. */
const PASSING = new Set([
  'ConsumerTooSlow',
  'Unavailable',
  'TimedOut',
  'InternalServerError',
  'ServiceUnavailable',
  'DidUnresolvable',
  'RateLimitExceeded',
  'JwtTooOld',
  'ReplayedToken',
  'BadTicket',
])
const LONGEST_PAUSE_S = 64

/** Listens until the consumer stops, the signal is aborted, or the server refuses for good. */
export async function* subscribe(
  server: Server,
  device: Device,
  options: SubscribeOptions,
): AsyncGenerator<Received, void, undefined> {
  const { chains, signal, onReconnect, onConnect, idleTimeoutMs } = options
  const dense = !options.kinds?.length
  const client = options.client ?? new Client(asDevice(server, device))
  const proof = options.proof ?? (HEADERS_SUPPORTED_PLATFORM ? 'header' : 'ticket')
  // The library reads them at each connection, after the address.
  const headers: Record<string, string> = {}
  /** Refusals in a row. The library counts a socket that was opened as a success, whatever came over it. */
  let refusals = 0

  const address = async () => {
    for (;;) {
      if (refusals > 1) await sleep(backOffMs(refusals - 2), signal)
      try {
        const ticket = proof === 'ticket' ? await askForTicket(client) : undefined
        if (!ticket) {
          const token = await deviceToken(device, { aud: server.did, lxm: event.subscribe.$lxm })
          headers['authorization'] = `Bearer ${token}`
        }
        return socketAddress(server, options, ticket)
      } catch (error) {
        if (!(error instanceof XrpcError && error.shouldRetry())) throw error
        refusals++
        onReconnect?.(error)
      }
    }
  }
  const frames = websocket<'binary'>(address, {
    dataMode: 'binary',
    headers,
    ...(signal && { signal }),
    ...(idleTimeoutMs !== undefined && { idleTimeoutMs }),
    ...(onConnect && { onConnect: () => onConnect() }),
    ...(onReconnect && { onReconnect: (error) => onReconnect(error) }),
  })
  for await (const frame of frames) {
    const told = readFrame(frame)
    if ('error' in told) {
      if (!PASSING.has(told.error)) throw new SubscriptionRefused(told.error, told.message)
      refusals++
      onReconnect?.(new SubscriptionRefused(told.error, told.message))
      continue
    }
    refusals = 0
    if (told.type !== 'entry') yield told
    else {
      const lost = chains.extend(told.entry, { dense })
      yield lost ? { ...told, lost } : told
    }
  }
}

async function askForTicket(client: Client): Promise<string> {
  return (await client.call(event.getTicket, { lxm: event.subscribe.$lxm })).ticket
}

function socketAddress(server: Server, { chains, streams, kinds }: SubscribeOptions, ticket?: string): URL {
  const url = new URL(`/xrpc/${event.subscribe.$lxm}`, server.url)
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
  const { cursor } = chains
  url.search = event.subscribe.main.parameters.toURLSearchParams({ cursor, streams, kinds, ticket }).toString()
  return url
}

/** 1, 2, 4 … 64 s, half a second more or less. */
const backOffMs = (n: number) => 1000 * (Math.min(2 ** n, LONGEST_PAUSE_S) + Math.random() - 0.5)

/** Two DAG-CBOR objects, one after the other, and nothing behind them. */
export function readFrame(frame: Uint8Array): Received | { error: string; message: string } {
  const bad = (why: string) => new BadFrame(why, frame)
  let parts: LexValue[]
  try {
    parts = [...decodeAll(frame)]
  } catch {
    throw bad('it is not DAG-CBOR')
  }
  const [header, body] = parts as [Partial<Record<string, LexValue>>, Partial<Record<string, LexValue>>]
  if (parts.length !== 2 || typeof header !== 'object' || typeof body !== 'object')
    throw bad('expected a header and a body')
  const { op, t: kind } = header
  if (op === -1) {
    const { error, message } = body
    if (typeof error !== 'string') throw bad('an error has no name')
    return { error, message: typeof message === 'string' ? message : '' }
  }
  if (op !== 1 || typeof kind !== 'string') throw bad('its header is of no known form')
  if (kind === '#cursor' || kind === '#info') return signal(kind, body, bad)
  const entry = event.defs.event.safeParse({ ...body, kind })
  if (entry.success) return { type: 'entry', entry: entry.value as Entry }
  // Every entry that is stored has these, whatever its kind; what has none of them may be passed over.
  if ('cursor' in body || 'header' in body) throw bad(entry.reason.message)
  return { type: 'unknown', kind }
}

function signal(
  kind: '#cursor' | '#info',
  body: Partial<Record<string, LexValue>>,
  bad: (why: string) => Error,
): Received {
  if (kind === '#cursor') {
    const read = event.subscribe.cursor.safeParse(body)
    if (!read.success) throw bad(read.reason.message)
    return { type: 'cursor', stream: read.value.stream, seq: read.value.seq }
  }
  const info = event.subscribe.info.safeParse(body)
  if (!info.success) throw bad(info.reason.message)
  const { name, message } = info.value
  return { type: 'info', name, ...(message !== undefined && { message }) }
}
