import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encode as cbor, hash, utf8 } from '../src/bytes.ts'
import { BrokenChain, type BrokenReason, type Entry, StreamChains, bodyOf } from '../src/index.ts'
import { ACCOUNT, OTHER, Stream, hex, recorded, recordedEvents, unhex } from './support.ts'

const refuses = (chains: StreamChains, entry: Entry, reason: BrokenReason, what?: string) =>
  assert.throws(
    () => chains.extend(entry),
    (error) => {
      assert(error instanceof BrokenChain)
      assert.equal(error.reason, reason, what)
      assert.equal(error.entry, entry, 'the evidence')
      assert.deepEqual(error.head, chains.head(entry.stream))
      return true
    },
  )

/** Chains that took one entry, and the stream it was of. */
function begun(): [StreamChains, Stream] {
  const [chains, stream] = [new StreamChains(ACCOUNT), Stream.midway()]
  chains.extend(stream.message())
  return [chains, stream]
}

test('the vectors of the protocol come out: genesis, header, content and hash', () => {
  const genesis = unhex(
    'a561760164686f6d65716469643a7765623a612e6578616d706c65646b696e6465636f6e766f6474696d651b000001a1ee565e00656e6f6e636550000102030405060708090a0b0c0d0e0f',
  )
  const header = unhex(
    'a8617601637365710164' +
      '6b696e6467236f70656e6564647072657658200000000000000000000000000000000000000000000000000000000000000000647465726d1a6afd86c06474696d651b000001a1ee565e006673747265616d78217363776667616763737971686d646a37706265686e6a366a76696c69353266363367636f6e74656e745820dba86cb51c49e48a5c3ab8d5fcd2ddba3db4119d4cd0ade4aa5558db5b9e6487',
  )
  assert.equal(
    hex(hash('rookery entry v1', header)),
    'fe7f01f802cc91472335452a45384cef65e8955ebf5508ad1bddf5a06d3ae68f',
  )
  const opened = {
    stream: 'scwfgagcsyqhmdj7pbehnj6jvili52f63',
    term: 0x6afd86c0,
    seq: 1,
    kind: '#opened',
    hash: hash('rookery entry v1', header),
    time: new Date(0x01a1_ee56_5e00).toISOString() as Entry['time'],
    header,
    body: genesis,
    salt: new Uint8Array(16).fill(0x11),
    cursor: '1',
  }
  new StreamChains(ACCOUNT).extend(opened)
  const message = unhex(
    'a96176016373657102646b696e6468236d65737361676564707265765820fe7f01f802cc91472335452a45384cef65e8955ebf5508ad1bddf5a06d3ae68f647465726d1a6afd86c06474696d651b000001a1ee5671886565706f6368016673747265616d78217363776667616763737971686d646a37706265686e6a366a76696c69353266363367636f6e74656e745820f4f9aee5099b53beac482a1e9b971cd02cc3d31ae3ec6c3dfeecac72e51b9782',
  )
  const chains = new StreamChains(ACCOUNT)
  chains.extend(opened)
  chains.extend({
    ...opened,
    seq: 2,
    kind: '#message',
    hash: hash('rookery entry v1', message),
    header: message,
    epoch: 1,
    cursor: '2',
    time: new Date(0x01a1_ee56_7188).toISOString() as Entry['time'],
    body: utf8('opaque ciphertext'),
    salt: new Uint8Array(16).fill(0x22),
    author: ACCOUNT,
    device: 'd1',
  })
  assert.equal(
    hex(chains.head(opened.stream)!.hash),
    '4418781baed697de6aee74874570a721d1fbc4528a7b040a1637d38ba60c09b0',
  )
})

test('what a running server answered is one chain for each stream, from the genesis on', () => {
  const { account } = recorded('events')
  const { events } = recordedEvents()
  assert(events.length > 10 && new Set(events.map(({ stream }) => stream)).size === 2)
  const chains = new StreamChains(account, '0')
  for (const event of events) chains.extend(event)
  assert.equal(chains.cursor, events.at(-1)!.cursor)
  assert(events.some((event) => event.kind === '#commit' && Array.isArray(bodyOf(event)?.['adds'])))
})

test('of what a running server answered, no byte can be another', () => {
  const { account } = recorded('events')
  const { events } = recordedEvents()
  for (const [at, event] of events.entries())
    for (const field of ['header', 'body', 'salt', 'hash'] as const) {
      const bytes = event[field]!
      const where = (at * 7919) % bytes.length
      const bent = { ...event, [field]: bytes.map((byte, i) => (i === where ? byte ^ 1 : byte)) }
      const chains = new StreamChains(account, '0')
      for (const before of events.slice(0, at)) chains.extend(before)
      assert.throws(() => chains.extend(bent), BrokenChain, `${event.kind} ${field} ${where}`)
      chains.extend(event)
    }
})

test('of what a running server answered, no entry can be left out, repeated or swapped', () => {
  const { account } = recorded('events')
  const { events } = recordedEvents()
  const read = (list: Entry[]) => {
    const chains = new StreamChains(account, '0')
    for (const event of list) chains.extend(event)
  }
  const follows = (at: number) => events.some((event, i) => i > at && event.stream === events[at]!.stream)
  const precedes = (at: number) => events.some((event, i) => i < at && event.stream === events[at]!.stream)
  for (const at of events.keys()) {
    // The first of a stream may be left out: so does a seat begin. The last cannot be missed yet.
    if (follows(at) && precedes(at)) assert.throws(() => read(events.toSpliced(at, 1)), BrokenChain, `without ${at}`)
    assert.throws(() => read(events.toSpliced(at, 0, events[at]!)), BrokenChain, `${at} twice`)
    if (at === 0) continue
    const swapped = () => read(events.toSpliced(at - 1, 2, events[at]!, events[at - 1]!))
    // Cursors are opaque, so only the numbers of one stream give its entries an order.
    if (events[at]!.stream === events[at - 1]!.stream) assert.throws(swapped, BrokenChain, `${at} before ${at - 1}`)
    else assert.doesNotThrow(swapped, `${at} before ${at - 1}`)
  }
})

test('pages of getMessages, which have no cursor, are checked as well', () => {
  const stream = Stream.midway()
  const entries = Array.from({ length: 3 }, () => stream.message()).map(({ cursor: _, ...plain }) => plain)
  const chains = new StreamChains(ACCOUNT)
  chains.extend(entries[0]!)
  assert.throws(() => chains.extend(entries[2]!), BrokenChain)
  chains.extend(entries[1]!)
  assert.deepEqual([chains.head(stream.id)?.seq, chains.cursor], [6, undefined])
})

test('an unbroken stream passes from wherever a seat begins', () => {
  const stream = Stream.midway()
  const entries = Array.from({ length: 5 }, () => stream.message())
  for (const from of entries.keys()) {
    const chains = new StreamChains(ACCOUNT)
    for (const entry of entries.slice(from)) chains.extend(entry)
    assert.deepEqual([chains.head(stream.id)?.seq, chains.cursor], [9, '90'])
  }
})

test('a repeat and a gap are found, and cursors have no order', () => {
  const [chains, stream] = [new StreamChains(ACCOUNT), Stream.midway()]
  const [first, second, third] = [stream.message(), stream.message(), stream.message()]
  chains.extend(first)
  refuses(chains, first, 'Repeated')
  refuses(chains, third, 'Missing')
  refuses(chains, { ...second, cursor: '' }, 'Malformed')
  refuses(chains, { ...second, cursor: 'x'.repeat(513) }, 'Malformed')
  chains.extend({ ...second, cursor: '1:9/abc' })
  chains.extend({ ...third, cursor: '0' })
  const later = stream.next('#later', new Uint8Array([1]))
  chains.extend({ ...later, cursor: 'x'.repeat(512) })
  assert.equal(chains.cursor, 'x'.repeat(512), 'a kind that is not known yet is taken as it is')
})

test('of some kinds only, numbers may be left out, and what directly follows is still linked', () => {
  const [chains, stream] = begun()
  stream.message()
  chains.extend(stream.message(), { dense: false })
  const fork = Stream.midway()
  fork.seq = stream.seq
  assert.throws(() => chains.extend(fork.message(), { dense: false }), BrokenChain)
  chains.extend(stream.message(), { dense: false })
})

test('a change of any part is found', () => {
  const changes: [(entry: Entry) => Partial<Entry>, BrokenReason][] = [
    [() => ({ body: utf8('other') }), 'Unchained'],
    [() => ({ salt: new Uint8Array(16) }), 'Unchained'],
    [() => ({ author: undefined }), 'Unchained'],
    [() => ({ device: 'dev_x' }), 'Unchained'],
    [() => ({ hash: new Uint8Array(32) }), 'Unchained'],
    [({ header }) => ({ header: Uint8Array.of(...header, 0) }), 'Malformed'],
    [() => ({ header: cbor({ v: 1 }) }), 'Malformed'],
    [() => ({ kind: '#commit' }), 'Disagrees'],
    [() => ({ epoch: 4 }), 'Disagrees'],
    [() => ({ time: '2026-11-21T00:00:00.000Z' as Entry['time'] }), 'Disagrees'],
    [() => ({ term: 8 }), 'Term'],
    [() => ({ term: 6 }), 'Term'],
  ]
  for (const [change, reason] of changes) {
    const [chains, stream] = begun()
    const entry = stream.message()
    refuses(chains, { ...entry, ...change(entry) }, reason, String(change))
    chains.extend(entry)
  }
  const [chains, stream] = begun()
  const forked = Stream.midway()
  forked.message()
  refuses(chains, forked.message(), 'Unchained', 'salts differ, so do hashes')
  const { body: _, salt: __, author: ___, ...withheld } = stream.message()
  chains.extend(withheld)
})

test('the first entry of a stream is the genesis that names it', () => {
  const genesis = cbor({ v: 1, kind: 'convo', home: 'did:web:a.example', nonce: new Uint8Array(16), time: 2000 })
  const fake = new Stream()
  refuses(new StreamChains(ACCOUNT), fake.next('#opened', genesis, { author: undefined }), 'Genesis')
  refuses(new StreamChains(ACCOUNT), new Stream().message(), 'Genesis')
})

test('whoever comes back begins anew at the commit that says so, and nobody else does', () => {
  const mine = [{ account: ACCOUNT, device: 'dev_x', ref: Uint8Array.of(1), server: '' }]
  const commit = Uint8Array.of(1)
  for (const [kind, body] of [
    ['#commit', cbor({ commit, adds: [], removes: mine })],
    ['#membership', cbor({ account: ACCOUNT, change: 'left' })],
  ] as const) {
    const stream = Stream.midway()
    const [before, end] = [stream.message(), stream.next(kind, body)]
    stream.message()
    const back = stream.next('#commit', cbor({ commit, adds: mine, removes: [] }))
    const seated = new StreamChains(ACCOUNT)
    seated.extend(before)
    refuses(seated, back, 'Missing', 'a seat that did not end has no gap, whoever is added')
    const stranger = new StreamChains(OTHER)
    for (const entry of [before, end]) stranger.extend(entry)
    refuses(stranger, back, 'Missing')
    const chains = new StreamChains(ACCOUNT)
    for (const entry of [before, end]) chains.extend(entry)
    const kept = StreamChains.restore(ACCOUNT, JSON.parse(JSON.stringify(chains.save())))
    kept.extend(back)
    kept.extend(stream.message())
  }
})

test('after a restore a stream goes on from where it says, and the caller is told what is lost', () => {
  const stream = Stream.midway()
  const chains = new StreamChains(ACCOUNT)
  for (const _ of [1, 2]) chains.extend(stream.message())
  const base = stream.clone()
  for (const _ of [1, 2]) chains.extend(stream.message())
  const restore = (term: number) => Object.assign(base.clone(), { term, cursorsFrom: 1000 })
  refuses(chains, restore(7).message(), 'Repeated', 'no rewriting within a term')
  refuses(chains, restore(8).message(), 'Repeated', 'nor without saying so')
  const body = (seq = base.seq, baseHash = base.prev) => cbor({ base: seq, baseHash, restoredTo: 1500 })
  refuses(chains, restore(7).next('#homeRestored', body()), 'Repeated', 'nor in the same term')
  refuses(chains, restore(8).next('#homeRestored', body(base.seq - 1)), 'Term', 'another number')
  refuses(chains, restore(8).next('#homeRestored', body(base.seq, new Uint8Array(32))), 'Term', 'another hash')
  const restored = restore(8)
  const lost = chains.extend(restored.next('#homeRestored', body()))
  assert.deepEqual(lost, { after: 6, upTo: 8 })
  assert.equal(chains.extend(restored.message()), undefined)
  assert.equal(chains.head(stream.id)?.seq, 8)
})

test('a term that begins at the head is taken from an entry that says so alone', () => {
  const [chains, stream] = begun()
  const moved = Object.assign(stream.clone(), { term: 8 })
  refuses(chains, moved.clone().message(), 'Term')
  const body = cbor({ base: stream.seq, baseHash: stream.prev, restoredTo: 1500 })
  assert.equal(chains.extend(moved.next('#homeRestored', body)), undefined)
})

test('what is kept between two runs is what the next one checks against', () => {
  const [chains, stream] = begun()
  const kept = StreamChains.restore(ACCOUNT, JSON.parse(JSON.stringify(chains.save())))
  assert.equal(kept.cursor, '50')
  const [second, third] = [stream.message(), stream.message()]
  refuses(kept, third, 'Missing')
  kept.extend(second)
  assert.deepEqual(kept.head(stream.id)?.hash, second.hash)
})
