// (h) Two accounts of the PDS have a conversation by an MLS implementation that is not ours: alice through the PDS, bob
// directly. What one says the other decrypts.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { refused } from '../expect.mjs'
import { SUITE } from '../mls.mjs'
import { mlsMessage, newest, say } from '../talk.mjs'

const idem = () => randomUUID()

export async function check(lab) {
  const {
    blue,
    people: { alice, bob },
    saw,
  } = lab
  const { mls } = blue.catbird

  const package_ = await bob.mls.keyPackage()
  await bob.direct.call(mls.publishKeyPackage, { keyPackage: package_.bytes })
  const offered = await alice.throughPds.call(mls.getKeyPackages, { accounts: [bob.did] })
  assert.deepEqual(offered.accounts[0].devices, [
    { device: bob.device.id, cipherSuites: [{ cipherSuite: SUITE, available: 1, lastResort: false }] },
  ])
  saw('a key package of ts-mls is taken and offered')

  const { groupId, groupInfo, itsGroupInfo } = await alice.mls.create()
  const malformed = { idem: idem(), groupInfo: itsGroupInfo, handshakePolicy: 'opaque' }
  await refused(alice.throughPds.xrpc(mls.createConvo, { body: malformed }), 400, 'MalformedMessage')
  saw('a GroupInfo whose external_pub lacks its length, as ts-mls 1.6.4 writes it: 400 MalformedMessage')

  const opened = await alice.throughPds.call(mls.createConvo, { idem: idem(), groupInfo, handshakePolicy: 'opaque' })
  const { stream } = opened
  saw('createConvo from a GroupInfo of ts-mls, through the PDS')

  const claim = { claimId: idem(), stream, targets: [bob.did], cipherSuites: [SUITE] }
  const claimed = await alice.throughPds.call(mls.claimKeyPackages, claim)
  const [bobs] = claimed.targets[0].packages
  assert.deepEqual(
    [bobs.device, Buffer.from(bobs.ref), Buffer.from(bobs.keyPackage)],
    [bob.device.id, Buffer.from(package_.ref), Buffer.from(package_.bytes)],
  )
  saw('the claimed key package is the published one, under the reference that ts-mls computes too')

  const staged = await alice.mls.add(groupId, [bobs.keyPackage])
  const bundle = {
    stream,
    idem: idem(),
    commit: staged.commit,
    welcome: staged.welcome,
    groupInfo: staged.groupInfo,
    adds: [{ account: bob.did, device: bob.device.id, ref: bobs.ref }],
  }
  const lying = { ...bundle, idem: idem(), adds: [{ ...bundle.adds[0], device: alice.device.id }] }
  await refused(alice.throughPds.xrpc(mls.addMembers, { body: lying }), 400, 'KeyPackageUnknown')
  saw('a commit that declares another device than it adds: 400 KeyPackageUnknown')

  const added = await alice.throughPds.call(mls.addMembers, bundle)
  assert.equal(added.epoch, 1)
  staged.confirm()
  assert.deepEqual(await alice.throughPds.call(mls.addMembers, bundle), added)
  saw('addMembers: epoch 1; repeated byte for byte it gets the same answer')

  const { welcomes } = await bob.direct.call(mls.getWelcomes)
  assert.equal(welcomes.length, 1)
  const joined = await bob.mls.join(welcomes[0].welcome, Buffer.from(welcomes[0].ref))
  assert.deepEqual(Buffer.from(joined), Buffer.from(groupId))
  await bob.direct.call(mls.ackWelcome, { id: welcomes[0].id, accepted: true })
  assert.deepEqual((await bob.direct.call(mls.getWelcomes)).welcomes, [])
  assert.equal(bob.mls.authenticator(groupId), alice.mls.authenticator(groupId))
  saw('bob joins by the Welcome: both have the same epoch authenticator')

  lab.convo = { stream, groupId }
  await talk(lab)
  await comeAndGo(lab)

  const { convo } = await bob.direct.call(mls.getConvo, { stream })
  assert.deepEqual(
    convo.members.map((member) => [member.account, member.role]).sort(),
    [
      [alice.did, 'admin'],
      [bob.did, 'member'],
    ].sort(),
  )
  assert.deepEqual([Buffer.from(convo.groupId), convo.cipherSuite], [Buffer.from(groupId), SUITE])
  saw('getConvo shows the members, the group id and the suite as MLS has them')
}

async function talk(lab) {
  const {
    people: { alice, bob },
    saw,
  } = lab
  await say(lab, alice, bob, 'the rook flies at dawn')
  saw('alice says something through the PDS, bob decrypts it')
  await say(lab, bob, alice, 'so do I')
  saw('bob answers directly, alice decrypts it through the PDS')
}

/** Another account joins, speaks, and is removed. */
async function comeAndGo(lab) {
  const {
    blue,
    people: { alice, bob, dora },
    convo: { stream, groupId },
    saw,
  } = lab
  const { mls, account } = blue.catbird
  await dora.registering.call(account.registerDevice, dora.registration())
  await dora.direct.call(mls.publishKeyPackage, { keyPackage: (await dora.mls.keyPackage()).bytes })

  const claim = { claimId: idem(), stream, targets: [dora.did], cipherSuites: [SUITE] }
  const [doras] = (await alice.throughPds.call(mls.claimKeyPackages, claim)).targets[0].packages
  const staged = await alice.mls.add(groupId, [doras.keyPackage])
  const { welcome, commit, groupInfo } = staged
  const adds = [{ account: dora.did, device: doras.device, ref: doras.ref }]
  const added = await alice.throughPds.call(mls.addMembers, { stream, idem: idem(), commit, welcome, groupInfo, adds })
  staged.confirm()
  const { entries } = await bob.direct.call(mls.getMessages, { stream, kinds: ['#commit'], afterSeq: added.seq - 1 })
  assert.equal(await bob.mls.receive(groupId, mlsMessage(entries.at(-1))), undefined)
  const [welcomed] = (await dora.direct.call(mls.getWelcomes)).welcomes
  await dora.mls.join(welcomed.welcome, Buffer.from(welcomed.ref))
  assert.equal(dora.mls.authenticator(groupId), bob.mls.authenticator(groupId))
  saw('a third account joins; who was there takes the commit in')
  await say(lab, dora, bob, 'hello')
  await alice.mls.receive(groupId, mlsMessage(await newest(lab, alice)))

  const identity = `${dora.did}#${dora.device.id}`
  const removal = await alice.mls.remove(groupId, [identity])
  const removes = [{ account: dora.did, device: dora.device.id }]
  await alice.throughPds.call(mls.removeMembers, {
    ...{ stream, idem: idem(), commit: removal.commit, groupInfo: removal.groupInfo, removes },
  })
  removal.confirm()
  await bob.mls.receive(groupId, mlsMessage(await newest(lab, bob, '#commit')))
  await refused(
    dora.direct.xrpc(mls.sendMessage, {
      body: { stream, idem: idem(), ciphertext: await dora.mls.encrypt(groupId, 'still here?') },
    }),
    403,
    'NotMember',
  )
  await say(lab, alice, bob, 'she is gone')
  assert.equal(bob.mls.epoch(groupId), 3)
  saw('removeMembers ends her seat: 403 NotMember; the others talk on in epoch 3')
}
