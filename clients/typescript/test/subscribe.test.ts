import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { type TestContext, test } from 'node:test'
import { type WebSocket, WebSocketServer } from 'ws'
import {
  BadFrame,
  BrokenChain,
  type Received,
  StreamChains,
  type SubscribeOptions,
  SubscriptionRefused,
  subscribe,
} from '../src/index.ts'
import { readFrame } from '../src/subscribe.ts'
import { ACCOUNT, Stream, claims, entryFrame, fakeServer, frame, json, key, unhex } from './support.ts'

const error = (name: string) => frame({ op: -1 }, { error: name, message: 'so' })

/** A server whose `nth` socket does what the test says. */
async function socketServer(t: TestContext, serve: (socket: WebSocket, nth: number) => void) {
  const server = await fakeServer(t, (response, { path }) => {
    const known = path === '/xrpc/blue.catbird.event.getTicket'
    const expiresAt = new Date().toISOString()
    json(response, known ? 200 : 404, known ? { ticket: `ticket-${++tickets}`, expiresAt } : { error: 'x' })
  })
  let tickets = 0
  const opened: { url: URL; request: IncomingMessage }[] = []
  const sockets = new WebSocketServer({ server: server.http })
  sockets.on('connection', (socket, request) => {
    serve(socket, opened.push({ url: new URL(request.url ?? '', server.url), request }))
  })
  t.after(() => {
    for (const socket of sockets.clients) socket.terminate()
  })
  return { ...server, opened }
}

/** Reads until there are `count`, or it ends. */
async function read(
  t: TestContext,
  server: Awaited<ReturnType<typeof socketServer>>,
  count: number,
  options: Partial<SubscribeOptions> = {},
): Promise<Received[]> {
  const stop = new AbortController()
  t.after(() => stop.abort())
  const chains = new StreamChains(ACCOUNT, '0')
  const device = { account: ACCOUNT, key: await key('a') }
  const received: Received[] = []
  for await (const one of subscribe(server, device, { chains, signal: stop.signal, ...options }))
    if (received.push(one) === count) break
  return received
}

const seqs = (received: Received[]) => received.flatMap((one) => (one.type === 'entry' ? [one.entry.seq] : []))

test('frames are read as what they are', () => {
  assert.deepEqual(readFrame(unhex('a261746523696e666f626f7001a1646e616d656e4f75746461746564437572736f72')), {
    type: 'info',
    name: 'OutdatedCursor',
  })
  assert.deepEqual(readFrame(error('FutureCursor')), { error: 'FutureCursor', message: 'so' })
  assert.deepEqual(readFrame(frame({ op: 1, t: '#cursor' }, { stream: 's', seq: 7 })), {
    type: 'cursor',
    stream: 's',
    seq: 7,
  })
  const entry = Stream.midway().message()
  assert.deepEqual(readFrame(entryFrame(entry)), { type: 'entry', entry })
  const later = Stream.midway().next('#later', new Uint8Array([1]))
  assert.equal((readFrame(entryFrame(later)) as Received).type, 'entry', 'a stored kind that is not known yet')
  assert.deepEqual(readFrame(frame({ op: 1, t: '#typing' }, { stream: 's' })), { type: 'unknown', kind: '#typing' })
})

test('a frame of another form is refused', () => {
  const entry = Stream.midway().message()
  for (const bad of [
    new Uint8Array(),
    unhex('a1626f7001'),
    unhex('ff'),
    Buffer.concat([entryFrame(entry), Buffer.of(0)]),
    frame({ op: 5 }, {}),
    frame({ op: 1 }, {}),
    frame({ op: -1 }, {}),
    frame({ op: 1, t: '#info' }, {}),
    frame({ op: 1, t: '#cursor' }, { stream: 's' }),
    frame({ op: 1, t: '#message' }, { cursor: '5' }),
    frame({ op: 1, t: '#message' }, { ...entry, hash: 'text' }),
  ])
    assert.throws(() => readFrame(bad), BadFrame, Buffer.from(bad).toString('hex'))
})

test('after a cut it resumes behind the last entry, with a fresh token, and nothing is missing or twice', async (t) => {
  const stream = Stream.midway()
  const entries = Array.from({ length: 6 }, () => stream.message())
  const server = await socketServer(t, (socket, nth) => {
    const from = (nth - 1) * 2
    for (const entry of entries.slice(from, from + 2)) socket.send(entryFrame(entry))
    if (nth === 1) setTimeout(() => socket.terminate(), 20)
    if (nth === 2) setTimeout(() => socket.close(1001, 'the server is stopping'), 20)
  })
  const lost: unknown[] = []
  const received = await read(t, server, 6, { onReconnect: (why) => lost.push(why) })
  assert.deepEqual(seqs(received), [5, 6, 7, 8, 9, 10])
  assert.deepEqual(
    server.opened.map(({ url }) => url.searchParams.get('cursor')),
    ['0', '60', '80'],
  )
  assert.equal(lost.length, 2)
  const tokens = server.opened.map(({ request }) =>
    claims(String(request.headers.authorization).slice('Bearer '.length)),
  )
  assert.equal(new Set(tokens.map(({ payload }) => payload['jti'])).size, 3)
  assert(tokens.every(({ payload }) => payload['lxm'] === 'blue.catbird.event.subscribe'))
})

test('a server that is not there yet is tried again', async (t) => {
  const server = await socketServer(t, (socket) => socket.send(entryFrame(Stream.midway().message())))
  server.http.once('connection', (socket) => socket.destroy())
  const lost: unknown[] = []
  assert.deepEqual(seqs(await read(t, server, 1, { onReconnect: (why) => lost.push(why) })), [5])
  assert.equal(lost.length, 1)
})

test('whoever was too slow, and whoever the server could not serve for the moment, resumes', async (t) => {
  const stream = Stream.midway()
  const entries = [stream.message(), stream.message()]
  const server = await socketServer(t, (socket, nth) => {
    if (nth === 1) socket.send(entryFrame(entries[0]!))
    if (nth === 3) return socket.send(entryFrame(entries[1]!))
    socket.send(error(nth === 1 ? 'ConsumerTooSlow' : 'Unavailable'))
    socket.close(1008, 'as the error says')
  })
  const told: string[] = []
  const onReconnect = (why: unknown) => why instanceof SubscriptionRefused && told.push(why.error)
  assert.deepEqual(seqs(await read(t, server, 2, { onReconnect })), [5, 6])
  assert.deepEqual(told, ['ConsumerTooSlow', 'Unavailable'])
  assert.deepEqual(
    server.opened.map(({ url }) => url.searchParams.get('cursor')),
    ['0', '50', '50'],
  )
})

test('a server that refuses again and again is asked less and less often', async (t) => {
  // Each pause is half a second shorter than its mean.
  t.mock.method(Math, 'random', () => 0)
  const stream = Stream.midway()
  const times: number[] = []
  const server = await socketServer(t, (socket, nth) => {
    times.push(Date.now())
    if (nth > 3) {
      socket.send(entryFrame(stream.message()))
      return void setTimeout(() => socket.terminate(), 20)
    }
    socket.send(error('Unavailable'))
    socket.close(1008, 'Unavailable')
  })
  await read(t, server, 2)
  const waited = (n: number) => (times[n + 1] ?? 0) - (times[n] ?? 0)
  assert(waited(2) >= 1990, `after three refusals: ${waited(2)} ms`)
  assert(waited(3) < 1800, `after it went well: ${waited(3)} ms`)
})

test('a refusal for good has its name', async (t) => {
  for (const name of ['FutureCursor', 'DeviceRevoked', 'SubscriptionClosed']) {
    const server = await socketServer(t, (socket) => {
      socket.send(error(name))
      socket.close(1008, name)
    })
    await assert.rejects(read(t, server, 1), (why) => why instanceof SubscriptionRefused && why.error === name)
    assert.equal(server.opened.length, 1)
  }
})

test('a server that skips, repeats or bends an entry after a cut is found, with the evidence', async (t) => {
  for (const [what, reason] of [
    ['skips', 'Missing'],
    ['repeats', 'Repeated'],
    ['bends', 'Unchained'],
  ] as const) {
    const stream = Stream.midway()
    const entries = [stream.message(), stream.message(), stream.message()]
    const bad = { skips: entries[2]!, repeats: entries[0]!, bends: { ...entries[1]!, body: new Uint8Array(3) } }[what]
    const server = await socketServer(t, (socket, nth) => {
      socket.send(entryFrame(nth === 1 ? entries[0]! : bad))
      if (nth === 1) setTimeout(() => socket.terminate(), 20)
    })
    const chains = new StreamChains(ACCOUNT, '0')
    await assert.rejects(read(t, server, 2, { chains }), (why) => {
      assert(why instanceof BrokenChain)
      assert.deepEqual([why.reason, why.entry, why.head?.seq], [reason, bad, 5])
      return true
    })
    assert.equal(chains.cursor, '50', 'what was taken stays')
  }
})

test('an outdated cursor is told, and what follows still comes', async (t) => {
  const server = await socketServer(t, (socket) => {
    socket.send(frame({ op: 1, t: '#info' }, { name: 'OutdatedCursor', message: 'gone' }))
    const { body: _, salt: __, author: ___, ...withheld } = Stream.midway().message()
    socket.send(entryFrame(withheld))
  })
  const [info, entry] = await read(t, server, 2)
  assert.deepEqual(info, { type: 'info', name: 'OutdatedCursor', message: 'gone' })
  assert.equal(entry?.type === 'entry' && entry.entry.body, undefined)
})

test('where no header can be sent, each connection spends a ticket of its own', async (t) => {
  const stream = Stream.midway()
  const entries = [stream.message(), stream.message()]
  const server = await socketServer(t, (socket, nth) => {
    socket.send(entryFrame(entries[nth - 1]!))
    setTimeout(() => socket.terminate(), 20)
  })
  const streams = ['sfqpona3sefnrzydeijvvzw6u54sydlha']
  assert.deepEqual(seqs(await read(t, server, 2, { proof: 'ticket', streams, kinds: ['#message', '#commit'] })), [5, 6])
  assert.deepEqual(
    server.opened.map(({ url }) => url.searchParams.get('ticket')),
    ['ticket-1', 'ticket-2'],
  )
  assert.deepEqual(server.opened[0]?.url.searchParams.getAll('kinds'), ['#message', '#commit'])
  assert.deepEqual(server.opened[0]?.url.searchParams.getAll('streams'), streams)
  assert(server.opened.every(({ request }) => request.headers.authorization === undefined))
})

test('it ends when the caller says so, and closes its socket', async (t) => {
  const closed = Promise.withResolvers<number>()
  const server = await socketServer(t, (socket) => void socket.on('close', (code) => closed.resolve(code)))
  const stop = new AbortController()
  const reading = read(t, server, 1, { signal: stop.signal, onConnect: () => stop.abort(new Error('enough')) })
  await assert.rejects(reading, /enough/)
  assert.equal(await closed.promise, 1000)
})
