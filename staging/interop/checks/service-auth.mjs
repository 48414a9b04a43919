// (a) Tokens of com.atproto.server.getServiceAuth, as the official client gets them, on direct calls.
import assert from 'node:assert/strict'
import { refused } from '../expect.mjs'
import { directly } from '../person.mjs'

export async function check({ rookery, blue, people: { bob }, saw }) {
  const { account } = blue.catbird

  const before = await bob.accountDirect.call(account.listDevices)
  assert.deepEqual(before, { devices: [] })
  saw('a token of getServiceAuth reads: an account without devices')

  const registered = await bob.registering.call(account.registerDevice, bob.registration())
  assert.deepEqual([registered.device, registered.state], [bob.device.id, 'certified'])
  saw(`it registers the account's first device: ${registered.state}, by the id that its key gives`)

  const { devices, chain } = await bob.accountDirect.call(account.listDevices)
  assert.deepEqual(
    devices.map((device) => [device.device, device.alg]),
    [[bob.device.id, 'EdDSA']],
  )
  assert.deepEqual([chain.generation, chain.seq], [1, 1])
  saw('the device is listed, and the chain begins with it')

  // The two forms of the audience: the server, and the service in it (proposal 0014).
  for (const audience of [rookery.did, rookery.service]) {
    const client = directly(rookery, bob.did, (nsid) => bob.serviceToken(nsid, audience))
    const listed = await client.call(account.listDevices)
    assert.equal(listed.devices.length, 1)
    saw(`audience ${audience === rookery.did ? 'without' : 'with'} #atproto_mls is taken`)
  }

  // As long as getServiceAuth allows.
  const hour = directly(rookery, bob.did, (nsid) =>
    bob.serviceToken(nsid, rookery.did, Math.floor(Date.now() / 1000) + 3599),
  )
  assert.equal((await hour.call(account.listDevices)).devices.length, 1)
  saw('a token for an hour is taken')

  await refused(bob.accountDirect.xrpc(blue.catbird.mls.getConvos), 401, 'DeviceRequired')
  saw('a service token alone does not say which device reads: 401 DeviceRequired')
}
