/**
 * Who calls, and which way: each function gives an `Agent` of the official client, for `new Client(agent)`.
 *
 * A call is repeated by `repeat`: same bytes, a fresh token each time.
 */
import type { Agent } from '@atproto/lex-client'
import { utf8 } from './bytes.ts'
import { type RepeatOptions, repeat } from './repeat.ts'
import { type Device, deviceToken } from './tokens.ts'

/** A Rookery server. */
export interface Server {
  /** Its origin, such as `https://chat.example`. */
  readonly url: string
  /** Its DID, such as `did:web:chat.example`. */
  readonly did: string
  readonly fetch?: typeof globalThis.fetch
  readonly repeat?: RepeatOptions
}

/** By this name a server stands in its DID document, and in `atproto-proxy`. */
const SERVICE_ID = '#atproto_mls'

type Send = (path: `/${string}`, init: RequestInit) => Promise<Response>
type Headings = (lxm: string, body: Uint8Array<ArrayBuffer> | undefined) => Promise<Record<string, string>>

/** Without a token: for createPairing and claimPairing. */
export const anyone = (server: Server): Agent => agent(undefined, server, directly(server), async () => ({}))

/** An account by service tokens, which `mint` gets: from its PDS, by `com.atproto.server.getServiceAuth`. */
export const asAccount = (
  server: Server,
  account: string,
  mint: (lxm: string, aud: string) => Promise<string>,
): Agent =>
  agent(account, server, directly(server), async (lxm) => ({ authorization: `Bearer ${await mint(lxm, server.did)}` }))

/** A device by tokens of its own. No PDS is asked. */
export const asDevice = (server: Server, device: Device): Agent =>
  agent(device.account, server, directly(server), async (lxm) => ({
    authorization: `Bearer ${await deviceToken(device, { aud: server.did, lxm })}`,
  }))

/**
 * Through the account's PDS, by the session of an official client. With a device it is that device which calls: what
 * writes carries the device's token, bound to the body, and what reads its name.
 */
export const throughPds = (server: Server, session: Agent, key?: Device['key']): Agent => {
  const proxied = { 'atproto-proxy': `${server.did}${SERVICE_ID}` }
  return agent(
    session.did,
    server,
    (path, init) => session.fetchHandler(path, init),
    async (lxm, body) => {
      if (!key) return proxied
      const named = { ...proxied, 'x-atproto-device': key.id }
      if (!body) return named
      if (!session.did) throw new TypeError('the session is not signed in')
      const token = await deviceToken({ account: session.did, key }, { aud: server.did, lxm, body })
      return { ...named, 'x-atproto-device-token': token }
    },
  )
}

const directly =
  (server: Server): Send =>
  (path, init) =>
    (server.fetch ?? globalThis.fetch)(new URL(path, server.url), init)

function agent(did: string | undefined, server: Server, send: Send, headings: Headings): Agent {
  return {
    did: did as Exclude<Agent['did'], undefined>,
    fetchHandler: (path, init) => {
      const body = bytesOf(init.body)
      const lxm = path.slice('/xrpc/'.length).split('?')[0] ?? ''
      return repeat(
        async (signal) => {
          const headers = new Headers(init.headers)
          for (const [name, value] of Object.entries(await headings(lxm, body))) headers.set(name, value)
          return send(path, { ...init, headers, signal, body: body ?? null })
        },
        server.repeat,
        init.signal,
      )
    },
  }
}

/** What can be sent again byte for byte. */
export function bytesOf(body: RequestInit['body']): Uint8Array<ArrayBuffer> | undefined {
  if (body === null || body === undefined) return undefined
  if (typeof body === 'string') return utf8(body)
  if (body instanceof Uint8Array) return new Uint8Array(body)
  throw new TypeError('a body that cannot be read twice cannot be repeated')
}
