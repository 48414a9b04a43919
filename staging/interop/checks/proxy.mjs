// (b) Calls through atproto-proxy of the PDS: device tokens with bodyHash, reads by the device's name, errors as they
// come out of a PDS.
import assert from 'node:assert/strict'
import { Client } from '@atproto/lex'
import { AtpAgent } from '@atproto/api'
import { Device } from '../device.mjs'
import { refused } from '../expect.mjs'

export async function check(lab) {
  const {
    blue,
    people: { alice, bob },
    saw,
  } = lab
  const { account, mls, event } = blue.catbird

  const registered = await alice.registeringThroughPds.call(account.registerDevice, alice.registration())
  assert.deepEqual([registered.device, registered.state], [alice.device.id, 'certified'])
  saw('registerDevice through the PDS, by the account')

  const listed = await alice.accountThroughPds.call(account.listDevices)
  assert.deepEqual(
    listed.devices.map((device) => device.device),
    [alice.device.id],
  )
  saw('a query of the account through the PDS')

  assert.deepEqual(await alice.throughPds.call(mls.getConvos), { convos: [] })
  saw('a read with x-atproto-device')

  const published = await alice.throughPds.call(mls.publishKeyPackages, {
    keyPackages: [(await alice.mls.keyPackage()).bytes, (await alice.mls.keyPackage()).bytes],
  })
  assert.deepEqual(
    published.results.map((result) => result.error),
    [undefined, undefined],
  )
  saw('a write with x-atproto-device-token bound by bodyHash: two key packages')

  const described = await alice.throughPds.call(account.updateDevice, { platform: 'interop' })
  assert.deepEqual(described, {})
  saw('an answer without fields stays one')

  await asAtprotoApi(lab)
  await errors(lab)

  // Ports and fragments as the PDS reads them.
  await refused(
    new Client(alice.session, { service: lab.rookery.did }).xrpc(account.listDevices),
    400,
    'InvalidRequest',
  )
  await refused(
    new Client(alice.session, { service: `${lab.rookery.did}#atproto_other` }).xrpc(account.listDevices),
    400,
    'InvalidRequest',
  )
  saw('the PDS finds #atproto_mls in our did.json, and no other service: 400 InvalidRequest')

  // What one account may not do in the name of another's device.
  const borrowed = Object.assign(await Device.create(alice.did, lab.rookery.did), { id: bob.device.id })
  const error = await refused(
    alice.accountThroughPds.xrpc(mls.getConvos, { headers: { 'x-atproto-device': borrowed.id } }),
    401,
    'DeviceUnknown',
  )
  assert.ok(!error.message.includes(bob.did))
  saw("another account's device by name: 401 DeviceUnknown")

  assert.deepEqual((await alice.throughPds.call(event.listEvents, { limit: 1 })).events.length, 1)
  saw('parameters pass through')
}

/** The older client: AtpAgent with a proxy. */
async function asAtprotoApi({ network, rookery, people: { alice }, saw }) {
  const agent = new AtpAgent({ service: network.pds })
  await agent.resumeSession(alice.agent.session)
  const proxied = agent.withProxy('atproto_mls', rookery.did)
  const answer = await proxied.fetchHandler('/xrpc/blue.catbird.account.listDevices', {
    headers: { 'atproto-proxy': rookery.service },
  })
  const body = await answer.json()
  assert.deepEqual([answer.status, body.devices.length], [200, 1])
  saw('@atproto/api reaches the same by atproto-proxy')
}

async function errors({ blue, people: { alice }, saw }) {
  const { mls, event, account } = blue.catbird
  const body = { keyPackage: (await alice.mls.keyPackage()).bytes }

  await refused(alice.accountThroughPds.xrpc(mls.publishKeyPackage, { body }), 401, 'DeviceProofRequired')
  saw('a write by the account alone: 401 DeviceProofRequired')

  const named = { 'x-atproto-device': alice.device.id }
  await refused(
    alice.accountThroughPds.xrpc(mls.publishKeyPackage, { body, headers: named }),
    401,
    'DeviceProofRequired',
  )
  saw('a write with the name of the device alone: 401 DeviceProofRequired')

  const tokenOf = async (nsid, bytes) => ({ 'x-atproto-device-token': await alice.device.token(nsid, { body: bytes }) })
  const otherBytes = await alice.through((nsid) => tokenOf(nsid, '{}'))
  await refused(otherBytes.xrpc(mls.publishKeyPackage, { body }), 401, 'BadJwtBodyHash')
  saw('a device token of other bytes: 401 BadJwtBodyHash')

  const unbound = await alice.through((nsid) => tokenOf(nsid))
  await refused(unbound.xrpc(mls.publishKeyPackage, { body }), 401, 'BadJwtBodyHash')
  saw('a device token of no bytes: 401 BadJwtBodyHash')

  const shown = await tokenOf(account.updateDevice.$lxm, JSON.stringify({ platform: 'again' }))
  const repeating = await alice.through(() => shown)
  await repeating.call(account.updateDevice, { platform: 'again' })
  await refused(repeating.xrpc(account.updateDevice, { body: { platform: 'again' } }), 401, 'ReplayedToken')
  saw('a device token shown again beside a fresh token of the PDS: 401 ReplayedToken')

  const missing = { params: { stream: 'sfqpona3sefnrzydeijvvzw6u54sydlha' } }
  await refused(alice.throughPds.xrpc(mls.getConvo, missing), 404, 'StreamNotFound')
  saw('absence: 404 StreamNotFound')

  await refused(alice.throughPds.xrpc(event.listEvents, { params: { cursor: '999999999' } }), 400, 'FutureCursor')
  saw('a declared error of a query: 400 FutureCursor')

  await refused(alice.throughPds.xrpc(mls.ackWelcome, { body: { id: '42', accepted: true } }), 404, 'WelcomeNotFound')
  saw('a declared error of a procedure: 404 WelcomeNotFound')

  const { bytes } = await alice.mls.keyPackage()
  await alice.throughPds.call(mls.publishKeyPackage, { keyPackage: bytes })
  await refused(
    alice.throughPds.xrpc(mls.publishKeyPackage, { body: { keyPackage: bytes } }),
    409,
    'DuplicateKeyPackage',
  )
  saw('a conflict keeps its status and name: 409 DuplicateKeyPackage')

  await refused(
    alice.throughPds.xrpc(mls.publishKeyPackage, { body: { keyPackage: Buffer.from('?') } }),
    400,
    'MalformedMessage',
  )
  saw('bytes that are no MLS: 400 MalformedMessage')

  await refused(alice.throughPds.xrpc(account.updateDevice, { body: { platform: 7 } }), 400, 'InvalidRequest')
  saw('a body that is not as the lexicon says: 400 InvalidRequest')
}
