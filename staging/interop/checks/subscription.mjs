// (d) The official subscription clients on our WebSocket: error frames, cursors, live messages, clean ends.
import assert from 'node:assert/strict'
import { websocket } from '@atproto/ws-client'
import { sleep, within } from '../expect.mjs'
import { PATIENCE_MS, bearer, bearerOfPds, closing, isMessage, kindOf, subscribe, take } from '../subscriber.mjs'
import { mlsMessage, say } from '../talk.mjs'

export async function check(lab) {
  await refusals(lab)
  await messages(lab)
  await ends(lab)
}

async function refusals(lab) {
  const {
    rookery,
    blue,
    people: { bob },
    saw,
  } = lab
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
    await assert.rejects(
      take(subscription, () => true),
      (error) => {
        assert.equal(error.error, name, `${what}: ${error}`)
        return true
      },
    )
    // The same, and how the socket closes behind the frame.
    const url = `${rookery.socketUrl}/xrpc/${nsid}?${new URLSearchParams(query)}`
    const closed = await closing(url, { headers: await headers() })
    assert.deepEqual(closed, { code: 1008, reason: name, wasClean: true })
    saw(`${what}: an error frame ${name}, then close 1008`)
  }
}

async function messages(lab) {
  const {
    blue,
    people: { alice, bob },
    convo: { groupId },
    saw,
  } = lab
  const {
    subscribe: { $lxm },
    listEvents,
  } = blue.catbird.event

  // What was: the same as listEvents has.
  const listed = []
  for (let cursor = '0', more = true; more;) {
    const page = await bob.direct.call(listEvents, { cursor, limit: 100 })
    listed.push(...page.events)
    ;({ cursor, more } = page)
  }
  const past = await take(
    subscribe(lab, { headers: await bearer(bob, $lxm), getParams: () => ({ cursor: '0' }) }),
    (taken) => taken.length === listed.length,
  )
  const shown = (event, kind) => [event.cursor, kind, event.stream, event.seq, Buffer.from(event.hash).toString('hex')]
  assert.deepEqual(
    past.map((event) => shown(event, kindOf(event))),
    listed.map((event) => shown(event, event.kind)),
  )
  const kinds = new Set(past.map(kindOf))
  saw(
    `${past.length} events from cursor 0, ${kinds.size} kinds, each as its generated type says, the same as listEvents`,
  )

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
    subscribe(lab, {
      headers: await bearer(bob, $lxm),
      getParams: () => ({ cursor: heard.cursor, kinds: ['#message'] }),
    }),
    (taken) => taken.length === 2,
  )
  assert.deepEqual(
    resumed.map((event) => event.seq),
    missed.map((sent) => sent.seq),
  )
  saw('resumed by cursor: what was missed, once and in order')

  // A token of the PDS beside the name of the device.
  const headers = { ...(await bearerOfPds(bob, $lxm)), 'x-atproto-device': bob.device.id }
  const [first] = await take(subscribe(lab, { headers, getParams: () => ({ cursor: '0' }) }), () => true)
  assert.equal(first.cursor, past[0].cursor)
  saw('a token of the PDS beside x-atproto-device')
}

/** The client says good-bye, or something else. */
async function ends(lab) {
  const {
    rookery,
    blue,
    people: { bob },
    saw,
  } = lab
  const {
    getTicket,
    subscribe: { $lxm },
  } = blue.catbird.event
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
