import assert from 'node:assert/strict'
import { test } from 'node:test'
import { p256 } from '@noble/curves/nist.js'
import { concat, decodeMap, encode as cbor } from '../src/bytes.ts'
import {
  BadLink,
  type BadLinkReason,
  DeviceChain,
  type DeviceKey,
  DeviceKey as Key,
  type MlsKey,
  lexicons,
  proveMlsKey,
} from '../src/index.ts'
import { ACCOUNT, OTHER, hex, key, recorded } from './support.ts'

const keys = (own: DeviceKey, mlsKeys: MlsKey[] = []) => ({ key: { alg: own.alg, raw: own.raw }, mlsKeys })

/** A chain of these keys, each vouched for by the one before, and its links. */
async function chainOf(...signers: DeviceKey[]): Promise<[DeviceChain, Uint8Array[]]> {
  const [chain, genesis] = DeviceChain.begin(ACCOUNT, 1, keys(signers[0]!))
  const links = [genesis]
  for (const [i, signer] of signers.slice(1).entries()) {
    const link = await chain.certify(signers[i]!, keys(signer))
    chain.extend(link)
    links.push(link)
  }
  return [chain, links]
}

const refuses = (chain: DeviceChain, link: Uint8Array, reason: BadLinkReason, what?: string) =>
  assert.throws(
    () => chain.extend(link),
    (error) => {
      assert(error instanceof BadLink)
      assert.equal(error.reason, reason, what)
      return true
    },
  )

/** The same link with its statement changed, signed anew by `by`. */
async function changed(link: Uint8Array, by: DeviceKey, change: (statement: Record<string, any>) => void) {
  const fields: Record<string, any> = { ...decodeMap(decodeMap(link)!['statement'] as Uint8Array) }
  change(fields)
  const statement = cbor(fields)
  return cbor({ statement, sig: await by.signStatement('rookery device v1', statement) })
}

/** A map of two or more fields with its first two changed places: the same values, and not canonical. */
function reordered(map: Uint8Array): Uint8Array {
  const fields = Object.entries(decodeMap(map)!)
  fields.splice(0, 2, fields[1]!, fields[0]!)
  // One field alone, without the head of its map.
  const encoded = fields.map(([name, value]) => cbor({ [name]: value }).subarray(1))
  return concat([map.subarray(0, 1), ...encoded])
}

test('the bytes of a chain are those of the server', async () => {
  const [a, b] = [await key('a'), await key('b')]
  const [chain, links] = await chainOf(a, b)
  assert.equal(hex(chain.head.hash), '53d63ef6725a0cc722807a425d6ef84af977d3b1819ee6f37b483502adf669c6')
  const begun = DeviceChain.read(ACCOUNT, links.slice(0, 1))
  assert.equal(hex(begun.head.hash), 'aaa89f4122d9a0b43353640ab63750d1253b39bd4710adea30887a3cdad40e29')
  assert(chain.wentThrough(begun.head) && !begun.wentThrough(chain.head))
  // The certificate that the lexicons show, signed by the server's own tests.
  const shown =
    'omNzaWdYQNzf2a/fKWLjeYqA9JhTvvmMiCUxjgG6NgTlH7ZVsnPLffkny6bNIyOXda2pVa7mnwEi0xXc05VHFaND+hGxtA9pc3RhdGVtZW50WOmpYXYBYmJ5eB5kZXZfZnJoZTJocGc3cDZhbHdrcTdyN2dpeW42Z2FjYWxnZUVkRFNBY3NlcQJkcHJldlggqqifQSLZoLQzU2QKtjdQ0SU7Ob1HEK3qMIh6PNrUDilmY2hhbmdlZ2NlcnRpZnlmZGV2aWNleB5kZXZfdHZmZWVveTdzY2FuNmt6Nm9qdnVlam9wcjZnYWNjb3VudHggZGlkOnBsYzpld3ZpN254enlvdW42emh4cmhzNjRvaXppcHVibGljS2V5WCBifxfYk+VpekuiIIvICwKS5/WNgSDrNTwbVUKducaxlg'
  begun.extend(Buffer.from(shown, 'base64'))
  assert.deepEqual(begun.head, chain.head)
  // Ed25519 has one signature for one message.
  assert.equal(Buffer.from(links[1]!).toString('base64').replaceAll('=', ''), shown)
})

test('the chain that a running server answered is gathered and checked', () => {
  const { account, answer } = recorded('devices')
  const listed = lexicons.account.listDevices.$output.schema.parse(answer)
  const links = listed.devices.map(({ certificate }) => certificate!)
  const chain = DeviceChain.gather(account, 1, links)
  assert.deepEqual(chain.head, listed.chain)
  assert.deepEqual(chain.devices.sort(), listed.devices.map(({ device }) => device).sort())
})

test('devices of every curve vouch for devices of every curve, and links may come in any order', async () => {
  for (const first of ['EdDSA', 'ES256'] as const)
    for (const second of ['EdDSA', 'ES256'] as const) {
      const [chain, links] = await chainOf(await Key.generate(first), await Key.generate(second), await key('three'))
      assert.deepEqual(DeviceChain.read(ACCOUNT, links).head, chain.head)
      assert.deepEqual(DeviceChain.gather(ACCOUNT, 1, links.toReversed()).head, chain.head)
    }
})

test('a revoked device vouches for nobody and never comes back', async () => {
  const [one, two, three] = [await key('one'), await key('two'), await key('three')]
  const [chain] = await chainOf(one, two)
  const early = await chain.certify(two, keys(three))
  chain.extend(await chain.revoke(one, two.id))
  assert.deepEqual(chain.devices, [one.id])
  refuses(chain, early, 'NotNext')
  refuses(chain, await chain.certify(two, keys(three)), 'Signer')
  refuses(chain, await chain.certify(one, keys(two)), 'KeyUsed')
  refuses(chain, await chain.revoke(one, two.id), 'Unknown')
  chain.extend(await chain.revoke(one, one.id))
  assert.deepEqual(chain.devices, [], 'a device may end itself')
})

test('every way to tamper with a link is found, and leaves the chain as it was', async () => {
  const [one, two, mallory] = [await key('one'), await key('two'), await key('mallory')]
  const [, [, good]] = await chainOf(one, two)
  const { statement, sig } = decodeMap(good!) as { statement: Uint8Array; sig: Uint8Array }
  const using = (change: (s: Record<string, any>) => void, by = one) => changed(good!, by, change)
  const of = (bytes: Uint8Array) => cbor({ statement: bytes, sig })
  const wordy = Buffer.from(hex(statement).replace('6373657102', '637365711802'), 'hex')
  assert.equal(wordy.length, statement.length + 1)
  const cases: [string, Uint8Array | Promise<Uint8Array>, BadLinkReason][] = [
    ['a spoilt signature', cbor({ statement, sig: sig.map((byte, i) => (i === 7 ? byte ^ 1 : byte)) }), 'Signature'],
    ['no signature', cbor({ statement }), 'Malformed'],
    ['a short signature', cbor({ statement, sig: sig.slice(1) }), 'Signature'],
    ['signed by somebody else', using(() => undefined, mallory), 'Signature'],
    ['by a stranger', using((s) => (s['by'] = mallory.id)), 'Signer'],
    ['by the new device itself', using((s) => (s['by'] = two.id), two), 'Signer'],
    ['another account', using((s) => (s['account'] = OTHER)), 'OtherAccount'],
    ['another version', using((s) => (s['v'] = 2)), 'Malformed'],
    ['a later number', using((s) => (s['seq'] = 3)), 'NotNext'],
    ['another before it', using((s) => (s['prev'] = new Uint8Array(32))), 'NotNext'],
    ['another id', using((s) => (s['device'] = mallory.id)), 'DeviceId'],
    ['another key', using((s) => (s['publicKey'] = mallory.raw)), 'DeviceId'],
    ['no point', using((s) => (s['publicKey'] = new Uint8Array(32).fill(255))), 'Keys'],
    ['another curve', using((s) => (s['alg'] = 'none')), 'Malformed'],
    ['no key', using((s) => delete s['publicKey']), 'Malformed'],
    ['a revocation with a key', using((s) => (s['change'] = 'revoke')), 'Malformed'],
    ['another verb', using((s) => (s['change'] = 'bless')), 'Malformed'],
    ['a further field', using((s) => (s['time'] = 1)), 'Malformed'],
    ['an empty list of keys', using((s) => (s['mlsKeys'] = [])), 'Malformed'],
    ['a field of the link', cbor({ statement, sig, time: 1 }), 'Malformed'],
    ['a byte more', of(concat([statement, Uint8Array.of(0)])), 'Malformed'],
    ['a number in more bytes than it needs', of(wordy), 'Malformed'],
    ['its fields in another order', of(reordered(statement)), 'Malformed'],
    ['the link’s fields in another order', reordered(good!), 'Malformed'],
    ['a changed byte', of(statement.map((byte) => byte ^ 1)), 'Malformed'],
  ]
  for (const [what, link, reason] of cases) {
    const [chain] = await chainOf(one)
    refuses(chain, await link, reason, what)
    assert.equal(chain.head.seq, 1, what)
    chain.extend(good!)
  }
})

test('links that are reordered, left out, repeated or of another chain are not one', async () => {
  const [one, two, three] = [await key('one'), await key('two'), await key('three')]
  const [, [l0, l1, l2]] = (await chainOf(one, two, three)) as [DeviceChain, [Uint8Array, Uint8Array, Uint8Array]]
  const [, [o0, o1]] = (await chainOf(three, one)) as [DeviceChain, [Uint8Array, Uint8Array]]
  for (const links of [[], [l1, l2], [l0, l0, l1], [l0, l2, l1], [l0, l2], [l0, l1, l1], [l0, o1], [o0, l1, l2]])
    assert.throws(() => DeviceChain.read(ACCOUNT, links), BadLink)
  assert.equal(DeviceChain.gather(ACCOUNT, 1, [l2, l0]).head.seq, 1, 'what lacks its place is left out')
  assert.throws(() => DeviceChain.gather(ACCOUNT, 2, [l0, l1, l2]), BadLink)
  assert.throws(() => DeviceChain.read(OTHER, [l0]), BadLink)
})

test('a link with a high S is refused', async () => {
  const [one, two] = [await Key.generate('ES256'), await key('two')]
  const [chain] = await chainOf(one)
  const link = await chain.certify(one, keys(two))
  const { statement, sig } = decodeMap(link) as { statement: Uint8Array; sig: Uint8Array }
  const { r, s } = p256.Signature.fromBytes(sig, 'compact')
  const high = new p256.Signature(r, p256.Point.Fn.neg(s)).toBytes('compact')
  refuses(chain, cbor({ statement, sig: high }), 'Signature')
  chain.extend(link)
})

test('further MLS keys are proven and belong to one device', async () => {
  const [one, two, three, mls] = [await key('one'), await key('two'), await key('three'), await key('mls')]
  const [chain] = await chainOf(one)
  const good = await proveMlsKey(mls, ACCOUNT, two.id)
  const raw = (key: Uint8Array): MlsKey => ({ ...good, key })
  const zeros = [32, 33, 57, 65].map((length) => [raw(new Uint8Array(length))])
  for (const bad of [...zeros, [good, good], [raw(two.raw)], Array.from({ length: 9 }, () => good)])
    refuses(chain, await chain.certify(one, keys(two, bad)), 'Keys')
  for (const unproven of [
    raw((await key('of somebody else')).raw),
    await proveMlsKey(mls, ACCOUNT, three.id),
    await proveMlsKey(mls, OTHER, two.id),
    { ...good, proof: new Uint8Array(64) },
  ]) {
    refuses(chain, await chain.certify(one, keys(two, [unproven])), 'MlsKey')
    assert.throws(() => DeviceChain.begin(ACCOUNT, 1, keys(two, [unproven])), BadLink)
  }
  const p256Key = await proveMlsKey(await Key.generate('ES256'), ACCOUNT, two.id)
  assert.equal(p256Key.key.length, 65)
  chain.extend(await chain.certify(one, keys(two, [good, p256Key])))
  assert.deepEqual(chain.device(two.id)?.mlsKeys, [good, p256Key])
  refuses(chain, await chain.certify(one, keys(three, [await proveMlsKey(mls, ACCOUNT, three.id)])), 'KeyUsed')
  refuses(chain, await chain.certify(one, keys(three, [await proveMlsKey(one, ACCOUNT, three.id)])), 'KeyUsed')
})
