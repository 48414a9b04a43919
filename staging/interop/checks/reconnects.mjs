// (d) The server goes and comes back, stopped and killed: official clients come back by themselves.
import assert from 'node:assert/strict'
import { refused, sleep, until, within } from '../expect.mjs'
import { PATIENCE_MS, bearer, subscribe } from '../subscriber.mjs'
import { say } from '../talk.mjs'

/** The server goes and comes back; the client does by itself, with a ticket for each connection. */
export async function check(lab) {
  const {
    rookery,
    blue,
    people: { alice, bob },
    convo: { stream },
    saw,
  } = lab
  const {
    getTicket,
    subscribe: { $lxm },
  } = blue.catbird.event

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
  await within(
    PATIENCE_MS,
    until(() => heard.length === 1),
    'the first message',
  )

  assert.equal(await rookery.stop(), 0)
  await refused(alice.throughPds.xrpc(blue.catbird.mls.getConvos), 502, 'UpstreamFailure')
  saw('while the server is away the PDS says so: 502 UpstreamFailure')
  await rookery.start()
  assert.equal(closes[0], 1001, `closes: ${closes}`)
  sent.push((await say(lab, alice, bob, 'after a restart')).seq, (await say(lab, alice, bob, 'and another')).seq)
  await within(
    PATIENCE_MS,
    until(() => heard.length === 3),
    'what was said after a restart',
  )
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
