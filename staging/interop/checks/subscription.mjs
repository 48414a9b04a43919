// (d) The official subscription clients on our WebSocket: cursors, error frames, restarts, ends.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { Subscription } from '@atproto/xrpc-server'
import { websocket } from '@atproto/ws-client'
import { sleep, within } from '../expect.mjs'
import { mlsMessage, say } from './conversation.mjs'

const PATIENCE_MS = 20_000

export async function check(lab) {
  await refusals(lab)
  await messages(lab)
  await ends(lab)
  await restarts(lab)
  await tooSlow(lab)
}

/** xrpc-server's Subscription; what it yields was found to be as the generated types say. */
function subscribe({ rookery, blue }, options) {
  const { $lxm, $message } = blue.catbird.event.subscribe
  return new Subscription({
    service: rookery.socketUrl,
    method: $lxm,
    maxReconnectSeconds: 1,
    validate(message) {
      const { success, reason } = $message.safeParse(message)
      if (!success) throw reason
      return message
    },
    ...options,
  })
}

const bearer = async (person, lxm) => ({ authorization: `Bearer ${await person.device.token(lxm)}` })

const bearerOfPds = async (person, lxm) => ({ authorization: `Bearer ${await person.serviceToken(lxm)}` })

/** Takes what comes until `enough` says so of all of it. */
async function take(subscription, enough) {
  const taken = []
  const taking = (async () => {
    for await (const message of subscription) {
      taken.push(message)
      if (enough(taken)) break
    }
  })()
  await within(PATIENCE_MS, taking, `a subscription with ${taken.length} messages`)
  return taken
}

const kindOf = (message) => message.$type.replace('blue.catbird.event.subscribe', '')

async function refusals(lab) {
  const { rookery, blue, people: { bob }, saw } = lab
  const nsid = blue.catbird.event.subscribe.$lxm
  const token = () => bearer(bob, nsid)
  const nobody = () => ({})
  const cases = [
    ['no token', 'AuthenticationRequired', nobody],
    ['a token for another method', 'BadJwtLexiconMethod', () => bearer(bob, 'blue.catbird.event.listEvents')],
    ['a token of the PDS that names no device', 'DeviceRequired', () => bearerOfPds(bob, nsid)],
    ['a cursor of the future', 'FutureCursor', token, { cursor: '99999999999' }],
    ['a ticket that never was', 'BadTicket', nobody, { ticket: 'q3M1nYc0sZtqk0mO6aVnJ0t4bXb7y1dYw2g5h8i9j0k' }],
    ['a parameter that is too long', 'InvalidRequest', token, { cursor: '1'.repeat(17) }],
  ]
  for (const [what, name, headers, query = {}] of cases) {
    const subscription = subscribe(lab, { headers: await headers(), getParams: () => query })
    await assert.rejects(take(subscription, () => true), (error) => {
      assert.equal(error.error, name, `${what}: ${error}`)
      return true
    })
    // The same, and how the socket closes behind the frame.
    const url = `${rookery.socketUrl}/xrpc/${nsid}?${new URLSearchParams(query)}`
    const closed = await closing(url, { headers: await headers() })
    assert.deepEqual(closed, { code: 1008, reason: name, wasClean: true })
    saw(`${what}: an error frame ${name}, then close 1008`)
  }
}

/** Reads a socket to its end, without coming back. */
async function closing(url, options) {
  let detail
  const frames = websocket(url, { ...options, shouldReconnect: false, onClose: (closed) => (detail = closed) })
  const reading = (async () => {
    for await (const _ of frames);
  })()
  await within(PATIENCE_MS, reading.catch(() => {}), 'a socket that is closed')
  return detail
}

async function messages(lab) {
  const { blue, people: { alice, bob }, convo: { groupId }, saw } = lab
  const { subscribe: { $lxm }, listEvents } = blue.catbird.event

  // What was: the same as listEvents has.
  const listed = []
  for (let cursor = '0', more = true; more; ) {
    const page = await bob.direct.call(listEvents, { cursor, limit: 100 })
    listed.push(...page.events)
    ;({ cursor, more } = page)
  }
  const past = await take(
    subscribe(lab, { headers: await bearer(bob, $lxm), getParams: () => ({ cursor: '0' }) }),
    (taken) => taken.length === listed.length,
  )
  const shown = (event, kind) => [event.cursor, kind, event.stream, event.seq, Buffer.from(event.hash).toString('hex')]
  assert.deepEqual(past.map((event) => shown(event, kindOf(event))), listed.map((event) => shown(event, event.kind)))
  const kinds = new Set(past.map(kindOf))
  saw(`${past.length} events from cursor 0, ${kinds.size} kinds, each as its generated type says, the same as listEvents`)

  // What is: a live message is decrypted.
  const live = take(subscribe(lab, { headers: await bearer(bob, $lxm) }), (taken) => taken.some(isMessage))
  await sleep(500)
  await say(lab, alice, undefined, 'live')
  const heard = (await live).find(isMessage)
  assert.equal(await bob.mls.receive(groupId, mlsMessage({ kind: '#message', body: heard.body })), 'live')
  saw('a live message is heard and decrypted')

  // What was missed: exactly that.
  const missed = [await say(lab, alice, bob, 'one'), await say(lab, alice, bob, 'two')]
  const resumed = await take(
    subscribe(lab, { headers: await bearer(bob, $lxm), getParams: () => ({ cursor: heard.cursor, kinds: ['#message'] }) }),
    (taken) => taken.length === 2,
  )
  assert.deepEqual(resumed.map((event) => event.seq), missed.map((sent) => sent.seq))
  saw('resumed by cursor: what was missed, once and in order')

  // A token of the PDS beside the name of the device.
  const headers = { ...(await bearerOfPds(bob, $lxm)), 'x-atproto-device': bob.device.id }
  const [first] = await take(subscribe(lab, { headers, getParams: () => ({ cursor: '0' }) }), () => true)
  assert.equal(first.cursor, past[0].cursor)
  saw('a token of the PDS beside x-atproto-device')
}

const isMessage = (message) => kindOf(message) === '#message'

/** The client says good-bye, or something else. */
async function ends(lab) {
  const { rookery, blue, people: { bob }, saw } = lab
  const { getTicket, subscribe: { $lxm } } = blue.catbird.event
  const url = `${rookery.socketUrl}/xrpc/${$lxm}?cursor=0`

  // The standard WebSocket, which tells how it ended when it ended it itself.
  const { ticket } = await bob.direct.call(getTicket, { lxm: $lxm })
  const standard = new WebSocket(`${url}&ticket=${ticket}`)
  standard.binaryType = 'arraybuffer'
  await within(PATIENCE_MS, new Promise((done) => standard.addEventListener('message', done)), 'an event')
  const ended = new Promise((done) => standard.addEventListener('close', done))
  standard.close(1000)
  const { code, wasClean } = await within(PATIENCE_MS, ended, 'the answer to a good-bye')
  assert.deepEqual([code, wasClean], [1000, true])
  saw('a standard WebSocket with a ticket ends it, and is answered in good order: 1000')

  // A pong to each ping: with a heartbeat this short the client would call the connection dead, and come back.
  const lost = []
  const stop = new AbortController()
  const silent = take(
    subscribe(lab, {
      headers: await bearer(bob, $lxm),
      heartbeatIntervalMs: 300,
      signal: stop.signal,
      onReconnectError: (error) => lost.push(error),
    }),
    () => true,
  )
  await sleep(1500)
  stop.abort(new Error('enough'))
  await assert.rejects(silent, { message: 'enough' })
  assert.deepEqual(lost, [])
  saw('pings are answered on a silent connection')

  let closed
  await assert.rejects(async () => {
    const talking = websocket(url, {
      headers: await bearer(bob, $lxm),
      shouldReconnect: false,
      onConnect: (sender) => sender.send(new Uint8Array([1])),
      onClose: (ended) => (closed = ended),
    })
    for await (const _ of talking);
  })
  assert.deepEqual([closed.code, closed.reason], [1003, 'InvalidRequest'])
  saw('a client that says something: close 1003 InvalidRequest')
}

/** The server goes and comes back; the client does by itself, with a ticket for each connection. */
async function restarts(lab) {
  const { rookery, blue, people: { alice, bob }, convo: { stream }, saw } = lab
  const { getTicket, subscribe: { $lxm } } = blue.catbird.event

  // Where a header is said once for all connections, the second one is refused by name.
  const again = subscribe(lab, { headers: await bearer(bob, $lxm), getParams: () => ({ cursor: '0' }) })
  const replayed = (async () => {
    for await (const _ of again);
  })()
  const once = assert.rejects(replayed, (error) => error.error === 'ReplayedToken')

  const closes = []
  let cursor
  const subscription = subscribe(lab, {
    async getParams() {
      // While the server is away the client bears with it, and this must too. After kill -9 tokens of the second in which
      // the server lost its memory of used ones are refused by a name of their own.
      const retry = (failure) => failure.error === 'JwtTooOld' || failure.shouldRetry()
      const patience = { retry, maxRetries: 100, minRetryTimeout: 100, maxRetryTimeout: 500 }
      const { ticket } = (await bob.direct.xrpc(getTicket, { body: { lxm: $lxm }, ...patience })).body
      return { ticket, kinds: ['#message'], streams: [stream], ...(cursor && { cursor }) }
    },
    onReconnectError: (error) => closes.push(error.code ?? error.cause?.code ?? error.name),
  })
  const heard = []
  const listening = (async () => {
    for await (const message of subscription) {
      heard.push(message.seq)
      cursor = message.cursor
      if (heard.length === 4) break
    }
  })()
  // Looked at below.
  listening.catch(() => {})
  await sleep(500)
  const sent = [(await say(lab, alice, bob, 'before')).seq]
  await within(PATIENCE_MS, until(() => heard.length === 1), 'the first message')

  assert.equal(await rookery.stop(), 0)
  await rookery.start()
  assert.equal(closes[0], 1001, `closes: ${closes}`)
  sent.push((await say(lab, alice, bob, 'after a restart')).seq, (await say(lab, alice, bob, 'and another')).seq)
  await within(PATIENCE_MS, until(() => heard.length === 3), 'what was said after a restart')
  saw('a restart: close 1001, the client comes back with a fresh ticket and its cursor, and misses nothing')
  await within(PATIENCE_MS, once, 'the refusal of a token that is shown again')
  saw('a client that shows its one token again: an error frame ReplayedToken')

  closes.length = 0
  await rookery.kill()
  await rookery.start()
  assert.equal(closes[0], 1006, `closes: ${closes}`)
  // Tokens of before are refused; those of a second later are not.
  await sleep(1100)
  sent.push((await say(lab, alice, bob, 'after kill -9')).seq)
  await within(PATIENCE_MS, listening, 'what was said after kill -9')
  assert.deepEqual(heard, sent)
  saw('kill -9 of server and Postgres: 1006, and again nothing is missed or told twice')
}

async function until(condition) {
  while (!condition()) await sleep(20)
}

/** A client that does not read is told so, behind what it had not read. */
async function tooSlow(lab) {
  const { rookery, blue, people: { alice, bob }, convo: { stream, groupId }, saw } = lab
  const { event: { subscribe: { $lxm } }, mls } = blue.catbird
  const url = `${rookery.socketUrl}/xrpc/${$lxm}?${new URLSearchParams({ kinds: '#message' })}`
  // It stops reading from the network when so much waits for the consumer.
  const options = { headers: await bearer(bob, $lxm), shouldReconnect: false, highWaterMark: 1024, heartbeat: false }
  let closed
  const frames = websocket(url, { ...options, dataMode: 'binary', onClose: (detail) => (closed = detail) })
  const first = frames.next()
  await sleep(500)
  const large = 'rook '.repeat(100_000)
  let sent = 0
  // More than the buffers of both ends hold, and than may wait in the server.
  for (; sent < 40; sent++) {
    const ciphertext = await alice.mls.encrypt(groupId, large)
    await alice.direct.call(mls.sendMessage, { stream, idem: randomUUID(), ciphertext })
  }
  const chunks = [(await first).value]
  const reading = (async () => {
    for await (const chunk of frames) chunks.push(chunk)
  })()
  await within(PATIENCE_MS, reading.catch(() => {}), 'the end of a slow subscription')
  assert.deepEqual([closed.code, closed.reason], [1008, 'ConsumerTooSlow'])
  const { Frame } = await import('@atproto/xrpc-server')
  const last = Frame.fromBytes(chunks.at(-1))
  assert.deepEqual([last.isError(), last.code], [true, 'ConsumerTooSlow'])
  assert.ok(chunks.length - 1 < sent)
  saw(`a client that does not read: after ${chunks.length - 1} of ${sent} messages of 0.5 MB an error frame ConsumerTooSlow, then 1008`)
}
