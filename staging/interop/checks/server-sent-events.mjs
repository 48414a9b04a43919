// (e) Server-sent events through the PDS: they come when they happen.
import assert from 'node:assert/strict'
import { EventSource } from 'eventsource'
import { sleep, until, within } from '../expect.mjs'
import { say } from '../talk.mjs'

const PATIENCE_MS = 15_000
/** Between a message and the event of it. Three messages are this far apart and more. */
const LIVE_MS = 1500
const NSID = 'blue.catbird.event.streamEvents'

/** Events as a standard EventSource gives them. */
class Listening {
  #events = []
  #waiting = []
  errors = []

  constructor(url, fetch, kinds) {
    this.source = new EventSource(url, fetch && { fetch })
    for (const kind of kinds) {
      this.source.addEventListener(kind, ({ type, data, lastEventId }) => {
        const event = { type, data: JSON.parse(data), id: lastEventId, at: performance.now() }
        const waiting = this.#waiting.shift()
        waiting ? waiting(event) : this.#events.push(event)
      })
    }
    this.source.addEventListener('error', (error) => this.errors.push(error))
    this.opened = new Promise((done) => this.source.addEventListener('open', done))
  }

  next() {
    const event = this.#events.shift()
    return within(PATIENCE_MS, event ?? new Promise((done) => this.#waiting.push(done)), 'a server-sent event')
  }

  close() {
    this.source.close()
  }
}

/** Through the PDS, by the account's session and the name of the device. */
function throughPds({ network, rookery }, person, query, kinds) {
  const fetch = (url, init) =>
    person.session.fetchHandler(new URL(url).pathname + new URL(url).search, {
      ...init,
      headers: { ...init.headers, 'atproto-proxy': rookery.service, 'x-atproto-device': person.device.id },
    })
  return new Listening(`${network.pds}/xrpc/${NSID}?${new URLSearchParams(query)}`, fetch, kinds)
}

export async function check(lab) {
  const {
    rookery,
    blue,
    people: { alice, bob },
    convo: { stream },
    saw,
  } = lab
  const { getTicket, listEvents } = blue.catbird.event

  const live = throughPds(lab, alice, { streams: stream, kinds: '#message' }, ['#message', '#end'])
  await within(PATIENCE_MS, live.opened, 'the answer through the PDS')
  const took = []
  for (const text of ['first', 'second', 'third']) {
    await sleep(LIVE_MS)
    const started = performance.now()
    const { seq } = await say(lab, bob, undefined, text)
    const event = await live.next()
    assert.deepEqual([event.type, event.data.seq, event.data.kind], ['#message', seq, '#message'])
    took.push(event.at - started)
    assert.ok(event.at - started < LIVE_MS, `it took ${event.at - started} ms`)
  }
  saw(
    `live through the PDS: ${took.map((ms) => Math.round(ms)).join(', ')} ms after each was sent, ${LIVE_MS} ms and more apart`,
  )

  const end = await live.next()
  live.close()
  assert.equal(end.type, '#end')
  const missed = await say(lab, bob, undefined, 'fourth')
  const resumed = throughPds(lab, alice, { streams: stream, kinds: '#message', cursor: end.data.cursor }, ['#message'])
  assert.equal((await resumed.next()).data.seq, missed.seq)
  resumed.close()
  saw('the answer ends itself with a cursor, and the next one goes on from there')

  const listed = await alice.throughPds.call(listEvents, { limit: 1 })
  const first = throughPds(lab, alice, { cursor: '0' }, [listed.events[0].kind])
  const event = await first.next()
  first.close()
  assert.equal(event.id, listed.events[0].cursor)
  const answer = await bob.direct.fetchHandler(`/xrpc/${listEvents.$lxm}?limit=100`, { method: 'GET' })
  const { events } = await answer.json()
  const same = events.find(({ cursor }) => cursor === event.id)
  if (same) assert.deepEqual(event.data, same)
  saw('an event has the cursor for its id')

  const future = throughPds(lab, alice, { cursor: '99999999999' }, [])
  await within(
    PATIENCE_MS,
    until(() => future.errors.length),
    'a refusal',
  )
  future.close()
  assert.equal(future.errors[0].code, 400)
  saw('a refusal is a plain answer: 400')

  // As a browser that cannot send a header.
  const { ticket } = await bob.direct.call(getTicket, { lxm: NSID })
  const query = new URLSearchParams({ ticket, cursor: '0' })
  const browser = new Listening(`${rookery.url}/xrpc/${NSID}?${query}`, undefined, ['#opened'])
  assert.equal((await browser.next()).data.seq, 1)
  browser.close()
  saw('directly, by a ticket in the query')
}
