// (d) A subscriber that does not read.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { websocket } from '@atproto/ws-client'
import { Frame } from '@atproto/xrpc-server'
import { sleep, within } from '../expect.mjs'
import { PATIENCE_MS, bearer } from '../subscriber.mjs'

/** A client that does not read is told so, behind what it had not read. */
export async function check(lab) {
  const {
    rookery,
    blue,
    people: { alice, bob },
    convo: { stream, groupId },
    saw,
  } = lab
  const {
    event: {
      subscribe: { $lxm },
    },
    mls,
  } = blue.catbird
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
  await within(
    PATIENCE_MS,
    reading.catch(() => {}),
    'the end of a slow subscription',
  )
  assert.deepEqual([closed.code, closed.reason], [1008, 'ConsumerTooSlow'])
  const last = Frame.fromBytes(chunks.at(-1))
  assert.deepEqual([last.isError(), last.code], [true, 'ConsumerTooSlow'])
  assert.ok(chunks.length - 1 < sent)
  saw(
    `a client that does not read: after ${chunks.length - 1} of ${sent} messages of 0.5 MB an error frame ConsumerTooSlow, then 1008`,
  )
}
