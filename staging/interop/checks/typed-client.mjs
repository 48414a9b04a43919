// (c) A client that `lex build` generated from lexicons/ a moment ago; it compares every answer with its lexicon.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { readFile, readdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { Client, xrpc } from '@atproto/lex'
import { Lexicons, parseLexiconDoc } from '@atproto/lexicon'
import { Device } from '../device.mjs'
import { refused } from '../expect.mjs'
import { LEXICONS, program, run, scratch } from '../generated.mjs'
import { say } from '../talk.mjs'

/** The issue asks for twelve. */
const LEAST_METHODS = 12

export async function check(lab) {
  const {
    blue,
    rookery,
    called,
    convo: { stream },
    people: { alice, bob },
    saw,
  } = lab
  const { account, event, mls } = blue.catbird

  const { seq } = await say(lab, alice, bob, 'counted')
  const { convos } = await bob.direct.call(mls.getConvos, { limit: 10 })
  assert.deepEqual(
    convos.map((convo) => [convo.stream, convo.head.seq]),
    [[stream, seq]],
  )
  const state = await bob.direct.call(mls.getGroupState, { stream })
  assert.deepEqual([state.epoch, state.unchanged], [convos[0].epoch, false])
  const same = await bob.direct.call(mls.getGroupState, { stream, ifNot: state.epoch })
  assert.deepEqual([same.unchanged, same.groupInfo], [true, undefined])
  assert.deepEqual(await bob.direct.call(mls.updateCursor, { stream, seq }), { seq })
  assert.equal((await bob.direct.call(mls.getConvo, { stream })).convo.settings.lastReadSeq, seq)
  const { pools } = await bob.direct.call(mls.getKeyPackageStatus)
  assert.deepEqual(
    pools.map((pool) => [pool.available, pool.claimed]),
    [[0, 1]],
  )
  saw('reads and positions of a conversation')

  const page = await bob.direct.call(event.listEvents, { limit: 3 })
  assert.equal(page.events.length, 3)
  assert.equal(page.more, true)
  const next = await bob.direct.call(event.listEvents, { limit: 3, cursor: page.cursor })
  assert.notEqual(next.events[0].cursor, page.events[2].cursor)
  saw('events in pages by cursor')

  const waiting = await Device.create(alice.did, rookery.did)
  const pairing = await xrpc(rookery.url, account.createPairing, {
    body: await waiting.pairingRequest(),
  })
  assert.ok(Date.parse(pairing.body.expiresAt) > Date.now())
  called.add(account.createPairing.$lxm)
  const claim = { pairing: pairing.body.pairing, idem: randomUUID(), proof: new Uint8Array(64) }
  await refused(xrpc(rookery.url, account.claimPairing, { body: claim }), 404, 'PairingNotFound')
  saw('a method for anyone, and its refusal: 404 PairingNotFound')

  await limits(lab)
  await honest(lab)
  await older(lab)

  assert.ok(called.size >= LEAST_METHODS, `${called.size} methods`)
  saw(
    `${called.size} methods answered as their lexicons say: ${[...called]
      .map((nsid) => nsid.split('.').at(-1))
      .sort()
      .join(' ')}`,
  )
}

/** What the client would not send by itself, sent all the same. */
async function limits({ blue, people: { bob }, saw }) {
  const { event, mls } = blue.catbird
  const call = (nsid, query) => bob.direct.fetchHandler(`/xrpc/${nsid}${query}`, { method: 'GET' })
  for (const [nsid, query, status, name] of [
    [event.listEvents.$lxm, '?limit=101', 400, 'InvalidRequest'],
    [event.listEvents.$lxm, '?limit=many', 400, 'InvalidRequest'],
    [mls.getConvo.$lxm, '', 400, 'InvalidRequest'],
    [mls.sendMessage.$lxm, '', 400, 'InvalidRequest'],
    ['blue.catbird.mls.doEverything', '', 501, 'MethodNotImplemented'],
  ]) {
    const answer = await call(nsid, query)
    const body = await answer.json()
    assert.deepEqual([answer.status, body.error], [status, name], `${nsid}${query}: ${body.message}`)
  }
  saw('wrong parameters, the wrong verb, an unknown method: 400 InvalidRequest, 501 MethodNotImplemented')
}

/** That the client really compares: it refuses an answer that somebody changed under way. */
async function honest({ blue, people: { bob }, saw }) {
  const changed = new Client({
    did: bob.did,
    async fetchHandler(path, init) {
      const answer = await bob.direct.fetchHandler(path, init)
      const body = JSON.stringify(await answer.json()).replace('"convos"', '"conversations"')
      return new Response(body, { headers: { 'content-type': 'application/json' } })
    },
  })
  await assert.rejects(changed.call(blue.catbird.mls.getConvos), { name: 'XrpcResponseValidationError' })
  saw('an answer that is not as its lexicon says would have been noticed')
}

/**
 * The older tools: @atproto/lexicon reads every lexicon, and a client that @atproto/lex-cli generates gets an answer. It
 * generates from a few alone, because it takes half a second of processor for each.
 */
async function older({ rookery, people: { bob }, saw }) {
  const files = (await readdir(LEXICONS, { recursive: true })).filter((file) => file.endsWith('.json'))
  const read = async (file) => parseLexiconDoc(JSON.parse(await readFile(path.join(LEXICONS, file), 'utf8')))
  const lexicons = new Lexicons(await Promise.all(files.map(read)))

  const { folder, remove } = await scratch()
  const out = path.join(folder, 'api')
  const few = ['mls/getConvos', 'mls/defs', 'event/defs'].map((name) =>
    path.join(LEXICONS, `blue/catbird/${name}.json`),
  )
  const tool = path.resolve(program('..'), '@atproto/lex-cli/bin.js')
  await run(process.execPath, [tool, 'gen-api', '--yes', out, ...few])
  for (const file of await readdir(out, { recursive: true })) {
    if (!file.endsWith('.ts')) continue
    // It writes for a compiler; Node runs TypeScript under its own name.
    const code = await readFile(path.join(out, file), 'utf8')
    await writeFile(path.join(out, file), code.replaceAll(/(from '\.[^']*)\.js'/g, "$1.ts'"))
  }
  const { AtpBaseClient } = await import(path.join(out, 'index.ts'))
  const client = new AtpBaseClient(async (url, init) => {
    const token = await bob.device.token('blue.catbird.mls.getConvos')
    return fetch(rookery.url + url, { ...init, headers: { ...init.headers, authorization: `Bearer ${token}` } })
  })
  const { data } = await client.blue.catbird.mls.getConvos({ limit: 5 })
  assert.equal(data.convos.length, 1)
  lexicons.assertValidXrpcOutput('blue.catbird.mls.getConvos', data)
  await remove()
  saw(`the older tools take the ${files.length} lexicons, and a client of lex-cli gen-api an answer`)
}
