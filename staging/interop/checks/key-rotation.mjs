// (f) An account's new signing key is picked up: a signature that the known key does not verify has the document fetched
// afresh. What the old key signs is refused from then on.
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { Secp256k1Keypair } from '@atproto/crypto'
import { quietly, refused } from '../expect.mjs'
import { directly } from '../person.mjs'
import { keyOf, serviceToken } from '../tokens.mjs'

export async function check(lab) {
  await ofThePds(lab)
  await ofOwn(lab)
}

/** As a PDS does it: a new key in its store, then its own command tells the directory. */
async function ofThePds({ network, rookery, blue, people: { dora }, saw }) {
  const { listDevices } = blue.catbird.account
  const { context, scripts } = network.operator
  const store = context().actorStore
  await dora.accountDirect.call(listDevices)
  const before = await dora.serviceToken(listDevices.$lxm)

  const { keyLocation } = await store.getLocation(dora.did)
  const key = await Secp256k1Keypair.create({ exportable: true })
  await writeFile(keyLocation, await key.export())
  await quietly(() => scripts['rotate-keys'](context(), [dora.did]))
  const { verificationMethods } = await network.directory.getDocumentData(dora.did)
  assert.equal(verificationMethods.atproto, key.did())
  assert.equal((await dora.accountDirect.call(listDevices)).devices.length, 1)
  saw('the PDS told the directory (rotate-keys): its next token is taken at once')

  await refused(directly(rookery, dora.did, () => before).xrpc(listDevices), 401, 'BadJwtSignature')
  saw('a token of the old key: 401 BadJwtSignature')
}

/** To a key of another curve; and again, sooner than we ask the directory again. */
async function ofOwn({ network, rookery, blue, saw }) {
  const { listDevices } = blue.catbird.account
  const { carol } = network.own
  const call = async (key) => {
    const token = await serviceToken(key, { iss: carol.did, aud: rookery.did, lxm: listDevices.$lxm })
    return directly(rookery, carol.did, () => token).xrpc(listDevices)
  }
  const rotation = await Secp256k1Keypair.import(network.rotationKey)
  const first = await keyOf(carol)
  await call(first)

  const second = await Secp256k1Keypair.create()
  await network.directory.updateAtprotoKey(carol.did, rotation, second.did())
  await call(second)
  saw(`from a key of ${first.jwtAlg} to one of ${second.jwtAlg}: its tokens are taken at once`)
  await refused(call(first), 401, 'BadJwtAlgorithm')
  saw('and those of the first key are not any more: 401 BadJwtAlgorithm')

  await network.directory.updateAtprotoKey(carol.did, rotation, first.did())
  await refused(call(first), 401, 'BadJwtAlgorithm')
  await call(second)
  saw('a document is fetched afresh once a minute: another new key waits for the next')
}
