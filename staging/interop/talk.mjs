// What is said in the lab's conversation: encrypted by one, stored by the server, decrypted by the other.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { decode } from '@atproto/lex-cbor'

/** Sends as one, and takes in as the other what the server holds. */
export async function say(lab, from, to, text) {
  const {
    blue,
    convo: { stream, groupId },
  } = lab
  const { mls } = blue.catbird
  const ciphertext = await from.mls.encrypt(groupId, text)
  assert.ok(!Buffer.from(ciphertext).includes(text), 'what goes out is encrypted')
  const client = from.viaPds ? from.throughPds : from.direct
  const sent = await client.call(mls.sendMessage, { stream, idem: randomUUID(), ciphertext })
  if (!to) return sent
  const reader = to.viaPds ? to.throughPds : to.direct
  const { entries } = await reader.call(mls.getMessages, { stream, afterSeq: sent.seq - 1, limit: 1 })
  assert.equal(entries[0].kind, '#message')
  assert.equal(await to.mls.receive(groupId, mlsMessage(entries[0])), text)
  return sent
}

/** The MLSMessage of an entry: a message's body is one, a commit's a map that holds one. */
export const mlsMessage = ({ kind, body }) => (kind === '#commit' ? decode(body).commit : body)

/** The newest entry of a kind. */
export async function newest({ blue, convo: { stream } }, person, kind = '#message') {
  const { entries } = await person.direct.call(blue.catbird.mls.getMessages, {
    stream,
    kinds: [kind],
    limit: 1,
    beforeSeq: 1_000_000,
  })
  return entries.at(-1)
}
