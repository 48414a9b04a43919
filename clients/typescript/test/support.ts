/** What tests share: keys with names, streams as a server makes them, and servers that misbehave. */
import { readFileSync } from 'node:fs'
import { type IncomingMessage, type Server as HttpServer, type ServerResponse, createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import type { LexValue } from '@atproto/lex-data'
import { jsonToLex } from '@atproto/lex-json'
import { encode as cbor, hash, sha256, utf8 } from '../src/bytes.ts'
import { DeviceKey, type Entry, type SigningAlg, lexicons } from '../src/index.ts'

export const ACCOUNT = 'did:plc:ewvi7nxzyoun6zhxrhs64oiz'
export const OTHER = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'

/** The key whose secret is the hash of its name, as in the tests of the server. */
export const key = (name: string, alg: SigningAlg = 'EdDSA') => DeviceKey.import(alg, sha256(utf8(name)))

export const unhex = (text: string) => Uint8Array.from(text.match(/../g) ?? [], (byte) => parseInt(byte, 16))
export const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

/** An answer of a running server, as test/record.ts kept it. */
export function recorded(name: string): { account: string; answer: LexValue } {
  const { account, answer } = JSON.parse(readFileSync(new URL(`vectors/${name}.json`, import.meta.url), 'utf8'))
  return { account, answer: jsonToLex(answer) }
}

export const recordedEvents = () => lexicons.event.listEvents.$output.schema.parse(recorded('events').answer)

/** A stream as a server makes it, at cursors 10, 20, 30 … */
export class Stream {
  readonly id: string
  term = 7
  seq = 0
  prev: Uint8Array = new Uint8Array(32)
  cursorsFrom = 0

  constructor(id = 'sfqpona3sefnrzydeijvvzw6u54sydlha') {
    this.id = id
  }

  clone(): Stream {
    return Object.assign(new Stream(this.id), this)
  }

  next(kind: string, body: Uint8Array, { author = ACCOUNT as string | undefined } = {}): Entry {
    this.seq++
    const salt = sha256(utf8(`${this.term} ${this.seq} ${Math.random()}`)).slice(0, 16)
    const content = hash('rookery content v1', cbor({ body, salt, author }))
    const fields = { v: 1, stream: this.id, term: this.term, seq: this.seq, prev: this.prev, kind, time: 2000, content }
    const header = cbor({ ...fields, epoch: 3 })
    const entry = {
      stream: this.id,
      term: this.term,
      seq: this.seq,
      kind,
      hash: hash('rookery entry v1', header),
      time: new Date(2000).toISOString() as Entry['time'],
      header,
      body,
      salt,
      author: author as Exclude<Entry['author'], undefined>,
      epoch: 3,
      cursor: String(this.cursorsFrom + this.seq * 10),
    }
    this.prev = entry.hash
    return entry
  }

  message(text = 'hello'): Entry {
    return this.next('#message', utf8(text))
  }

  /** A stream that had entries before those that the test makes, so that its first is not the genesis. */
  static midway(seq = 4): Stream {
    const stream = new Stream()
    stream.seq = seq
    stream.prev = sha256(utf8('before'))
    return stream
  }
}

/** One frame of a subscription. */
export function frame(header: Record<string, LexValue>, body: Record<string, LexValue>): Uint8Array {
  return Buffer.concat([cbor(header), cbor(body)])
}

export function entryFrame({ kind, ...body }: Entry): Uint8Array {
  return frame({ op: 1, t: kind }, body)
}

export interface Asked {
  path: string
  headers: IncomingMessage['headers']
  body: string
}

/** An HTTP server that keeps what it was asked, and answers as the test says. */
export async function fakeServer(
  t: TestContext,
  answer: (response: ServerResponse, asked: Asked, nth: number) => void,
): Promise<{ url: string; did: string; asked: Asked[]; http: HttpServer }> {
  const asked: Asked[] = []
  const http = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const { url: path = '', headers } = request
      const one = { path, headers, body: Buffer.concat(chunks).toString() }
      asked.push(one)
      answer(response, one, asked.length)
    })
  })
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  t.after(() => http.close().closeAllConnections())
  return { url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`, did: 'did:web:a.example', asked, http }
}

export function json(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))
}

/** What a token says. */
export function claims(token: string): { header: Record<string, unknown>; payload: Record<string, unknown> } {
  const read = (part?: string) => JSON.parse(Buffer.from(part ?? '', 'base64url').toString())
  const [header, payload] = token.split('.')
  return { header: read(header), payload: read(payload) }
}
