import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { lexStringify } from '@atproto/lex-json'
import { base64url, sha256, utf8 } from '../src/bytes.ts'
import { Client, DeviceChain, UntrueDevices, anyone, lexicons, listDevices, registerDevice } from '../src/index.ts'
import { ACCOUNT, claims, fakeServer, json, key, recorded } from './support.ts'

type Listed = lexicons.account.listDevices.$OutputBody

const listed = () => lexicons.account.listDevices.$output.schema.parse(recorded('devices').answer)

async function list(t: TestContext, answer: Listed, seen?: Parameters<typeof listDevices>[2]) {
  const server = await fakeServer(t, (response) => json(response, 200, JSON.parse(lexStringify(answer))))
  return listDevices(new Client(anyone(server)), recorded('devices').account, seen)
}

test('a list is believed as far as its chain says the same', async (t) => {
  const { chain, devices } = await list(t, listed())
  assert.deepEqual([chain.devices.length, devices.length], [2, 2])
  assert.deepEqual((await list(t, listed(), chain.head)).chain.head, chain.head)
})

test('a listener that a server adds by itself is found', async (t) => {
  const answer = listed()
  const [first] = answer.devices
  const mallory = await key('mallory')
  const added = { ...first!, device: mallory.id, publicKey: mallory.raw, alg: mallory.alg }
  for (const devices of [
    [...answer.devices, added],
    [...answer.devices, { ...added, certificate: undefined }],
    answer.devices.map((device) => ({ ...device, publicKey: mallory.raw })),
  ])
    await assert.rejects(list(t, { ...answer, devices }), UntrueDevices)
  const uncertified = { ...added, certificate: undefined, state: 'uncertified' }
  assert.equal((await list(t, { ...answer, devices: [...answer.devices, uncertified] })).chain.devices.length, 2)
})

test('a list without all links, or with another head, is refused', async (t) => {
  const answer = listed()
  const { chain: _, ...none } = answer
  await assert.rejects(list(t, none), UntrueDevices)
  for (const chain of [
    { ...answer.chain!, seq: 1 },
    { ...answer.chain!, seq: 3 },
    { ...answer.chain!, hash: new Uint8Array(32) },
  ])
    await assert.rejects(list(t, { ...answer, chain }), UntrueDevices)
  const devices = answer.devices.map(({ certificate: _, ...device }, i) => (i === 0 ? device : answer.devices[i]!))
  await assert.rejects(list(t, { ...answer, devices }))
})

test('a chain that was seen may grow or be of a later generation, and is never another', async (t) => {
  const { account } = recorded('devices')
  const { chain } = await list(t, listed())
  const [begun] = DeviceChain.begin(account, 1, { key: await key('a'), mlsKeys: [] })
  await assert.rejects(list(t, listed(), begun.head), /another one than before/)
  await assert.rejects(list(t, listed(), { ...chain.head, seq: 3 }), /another one than before/)
  await assert.rejects(list(t, listed(), { ...chain.head, generation: 2 }), /another one than before/)
  assert(await list(t, listed(), { generation: 0, seq: 5, hash: new Uint8Array(32) }))
})

test('a registration carries a proof over its body, and is repeated byte for byte', async (t) => {
  const device = { account: ACCOUNT, key: await key('a') }
  const server = await fakeServer(t, (response, _, nth) =>
    nth === 1
      ? void response.socket?.destroy()
      : json(response, 200, { device: device.key.id, state: 'certified', stream: 's' }),
  )
  const client = new Client(anyone({ ...server, repeat: { pauseMs: 5 } }))
  const answer = await registerDevice(client, server, device, { kind: 'app' })
  assert.equal(answer.state, 'certified')
  const [first, second] = server.asked
  assert.equal(first?.body, second?.body)
  const { header, payload } = claims(String(first!.headers['x-atproto-device-token']))
  assert.equal(payload['bodyHash'], base64url(sha256(utf8(first!.body))))
  assert.deepEqual([header['kid'], payload['lxm']], [device.key.id, 'blue.catbird.account.registerDevice'])
  assert(Number(payload['exp']) - Number(payload['iat']) >= 300, 'it outlives the repeats')
})
