// (f) An account's new signing key is picked up: a signature that the known key does not verify has the document fetched
// afresh. What the old key signs is refused from then on.
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { P256Keypair, Secp256k1Keypair } from '@atproto/crypto'
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
  await refused(dora.accountDirect.xrpc(listDevices), 401, 'BadJwtSignature')
  saw('the PDS signs with a key that the directory does not have yet: 401 BadJwtSignature')

  await quietly(() => scripts['rotate-keys'](context(), [dora.did]))
  const { verificationMethods } = await network.directory.getDocumentData(dora.did)
  assert.equal(verificationMethods.atproto, key.did())
  assert.equal((await dora.accountDirect.call(listDevices)).devices.length, 1)
  saw('the PDS told the directory (rotate-keys): its next token is taken at once')

  await refused(directly(rookery, dora.did, () => before).xrpc(listDevices), 401, 'BadJwtSignature')
  saw('a token of the old key: 401 BadJwtSignature')
}

/** Also to a key of another curve, and back. */
async function ofOwn({ network, rookery, blue, saw }) {
  const { listDevices } = blue.catbird.account
  const { carol } = network.own
  const token = (key) => serviceToken(key, { iss: carol.did, aud: rookery.did, lxm: listDevices.$lxm })
  const call = async (key) => {
    const shown = await token(key)
    return directly(rookery, carol.did, () => shown).xrpc(listDevices)
  }
  const rotation = await Secp256k1Keypair.import(network.rotationKey)
  const first = await keyOf(carol)
  await call(first)
  for (const Keypair of [Secp256k1Keypair, P256Keypair]) {
    const next = await Keypair.create({ exportable: true })
    await network.directory.updateAtprotoKey(carol.did, rotation, next.did())
    await call(next)
    saw(`a new key of ${next.jwtAlg} in the directory: its tokens are taken at once`)
    carol.curve = next.jwtAlg
    carol.privateKey = Buffer.from(await next.export()).toString('hex')
  }
  await refused(call(first), 401, 'BadJwtSignature')
  saw('and those of the first key are not any more: 401 BadJwtSignature')
}
