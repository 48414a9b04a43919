import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Agent, Client, anyone, asAccount, idem, lexicons, throughPds } from '../src/index.ts'
import { base64url, sha256, utf8 } from '../src/bytes.ts'
import { ACCOUNT, claims, fakeServer, json, key } from './support.ts'

const SERVER = { url: 'https://a.example', did: 'did:web:a.example' }

/** A session of an official client, with a PDS that answers what it is told. */
function session(answer: unknown): { agent: Agent; asked: { path: string; headers: Headers; body: string }[] } {
  const asked: { path: string; headers: Headers; body: string }[] = []
  const fetchHandler: Agent['fetchHandler'] = async (path, init) => {
    const body = init.body ? new TextDecoder().decode(init.body as Uint8Array) : ''
    asked.push({ path, headers: new Headers(init.headers), body })
    return Response.json(answer)
  }
  return { agent: { did: ACCOUNT as Exclude<Agent['did'], undefined>, fetchHandler }, asked }
}

test('through a PDS, what writes carries the device’s token, bound to the very body', async () => {
  const { agent, asked } = session({ term: 1, seq: 5, hash: { $bytes: 'AQ' } })
  const own = await key('a')
  const client = new Client(throughPds(SERVER, agent, own))
  await client.call(lexicons.mls.sendMessage, { stream: 's', idem: idem(), ciphertext: Uint8Array.of(1) })
  const [one] = asked
  assert.equal(one?.headers.get('atproto-proxy'), 'did:web:a.example#atproto_mls')
  assert.equal(one.headers.get('x-atproto-device'), own.id)
  assert.equal(one.headers.get('authorization'), null, 'the session’s business')
  const { header, payload } = claims(one.headers.get('x-atproto-device-token') ?? '')
  assert.deepEqual([header['kid'], payload['iss'], payload['aud']], [own.id, ACCOUNT, SERVER.did])
  assert.equal(payload['lxm'], 'blue.catbird.mls.sendMessage')
  assert.equal(payload['bodyHash'], base64url(sha256(utf8(one.body))))
})

test('through a PDS, what reads carries the device’s name alone', async () => {
  const { agent, asked } = session({ convos: [] })
  const own = await key('a')
  await new Client(throughPds(SERVER, agent, own)).call(lexicons.mls.getConvos, {})
  assert.equal(asked[0]?.headers.get('x-atproto-device'), own.id)
  assert.equal(asked[0]?.headers.get('x-atproto-device-token'), null)
})

test('through a PDS without a device, the account itself calls', async () => {
  const { agent, asked } = session({ devices: [] })
  await new Client(throughPds(SERVER, agent)).call(lexicons.account.listDevices)
  assert.equal(asked[0]?.headers.get('atproto-proxy'), 'did:web:a.example#atproto_mls')
  assert.equal(asked[0]?.headers.get('x-atproto-device'), null)
})

test('an account shows a service token for each call, and anyone shows none', async (t) => {
  const server = await fakeServer(t, (response) => json(response, 200, { devices: [] }))
  const minted: string[][] = []
  const mint = async (...asked: string[]) => `token-${minted.push(asked)}`
  await new Client(asAccount(server, ACCOUNT, mint)).call(lexicons.account.listDevices)
  assert.deepEqual(minted, [['blue.catbird.account.listDevices', server.did]])
  assert.equal(server.asked[0]?.headers.authorization, 'Bearer token-1')
  await new Client(anyone(server)).call(lexicons.account.listDevices)
  assert.equal(server.asked[1]?.headers.authorization, undefined)
})
