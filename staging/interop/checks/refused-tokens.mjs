// (g) Which tokens are taken, and by which name and status each other is refused. Where the official verifier has a
// name for it, it is the same.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { Secp256k1Keypair } from '@atproto/crypto'
import { IdResolver } from '@atproto/identity'
import { createServiceJwt, verifyJwt } from '@atproto/xrpc-server'
import { Device } from '../device.mjs'
import { refused } from '../expect.mjs'
import { directly } from '../person.mjs'
import { keyOf, serviceToken } from '../tokens.mjs'

const NOBODY = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'

export async function check(lab) {
  await ownKeys(lab)
  await replayed(lab)
  await refusals(lab)
  await ofDevices(lab)
}

/** A P-256 and a K-256 account that hold their keys themselves; the official library mints. */
async function ownKeys({ network, rookery, blue, saw }) {
  const { account } = blue.catbird
  for (const [name, own] of Object.entries(network.own)) {
    const keypair = await keyOf(own)
    const device = await Device.create(own.did, rookery.did)
    const minted = (lxm) => createServiceJwt({ iss: own.did, aud: rookery.did, lxm, keypair })
    const proof = (lxm, body) => device.token(lxm, { body })
    const client = directly(rookery, own.did, minted, undefined, proof)
    const registered = await client.call(account.registerDevice, {
      publicKey: device.publicKey,
      kind: 'app',
    })
    assert.equal(registered.state, 'certified')
    const direct = directly(rookery, own.did, (lxm) => device.token(lxm))
    assert.deepEqual(await direct.call(blue.catbird.mls.getConvos), { convos: [] })
    saw(`an ${own.curve} account with a key of its own (${name}) registers a device, and the device calls`)
  }
}

async function replayed({ rookery, blue, people: { bob }, saw }) {
  const { listDevices } = blue.catbird.account
  const token = await bob.serviceToken(listDevices.$lxm)
  const client = directly(rookery, bob.did, () => token)
  await client.call(listDevices)
  await refused(client.xrpc(listDevices), 401, 'ReplayedToken')
  saw('a token of getServiceAuth, twice: 401 ReplayedToken')

  const { getConvos } = blue.catbird.mls
  const own = await bob.device.token(getConvos.$lxm)
  const device = directly(rookery, bob.did, () => own)
  await device.call(getConvos)
  await refused(device.xrpc(getConvos), 401, 'ReplayedToken')
  saw('a device token, twice: 401 ReplayedToken')
}

async function refusals({ network, rookery, blue, people: { bob }, saw }) {
  const { listDevices } = blue.catbird.account
  const { kim, carol } = network.own
  const [kims, carols] = [await keyOf(kim), await keyOf(carol)]
  const good = { iss: kim.did, aud: rookery.did, lxm: listDevices.$lxm }
  const now = Math.floor(Date.now() / 1000)
  const signed = (claims, header) => serviceToken(kims, { ...good, ...claims }, header)

  // What, our name, the token, and the name of the official verifier where it has one; null where it would take it.
  const cases = [
    ['no token', 'AuthenticationRequired', undefined],
    ['something else', 'BadJwt', 'not-a-token', 'BadJwt'],
    ['another audience', 'BadJwtAudience', await signed({ aud: 'did:web:other.example' }), 'BadJwtAudience'],
    ['another service of ours', 'BadJwtAudience', await signed({ aud: `${rookery.did}#other` }), 'BadJwtAudience'],
    [
      'another method',
      'BadJwtLexiconMethod',
      await signed({ lxm: 'blue.catbird.mls.getConvos' }),
      'BadJwtLexiconMethod',
    ],
    ['no method', 'BadJwtLexiconMethod', await signed({ lxm: undefined }), 'BadJwtLexiconMethod'],
    ['expired', 'JwtExpired', await signed({ iat: now - 120, exp: now - 60 }), 'JwtExpired'],
    ['no expiry', 'BadJwt', await signed({ exp: undefined }), 'BadJwt'],
    ['good for a day', 'JwtTooLong', await signed({ exp: now + 86_400 }), null],
    ['of the future', 'JwtNotYetValid', await signed({ nbf: now + 600, exp: now + 900 }), null],
    ['no jti', 'BadJwtId', await signed({ jti: undefined }), null],
    ['a jti that is too long', 'BadJwtId', await signed({ jti: 'x'.repeat(129) }), null],
    ['an access token', 'BadJwtType', await signed({}, { typ: 'at+jwt' }), 'BadJwtType'],
    ['a device token by an account', 'BadJwtKeyId', await signed({}, { typ: 'rookery-device+jwt' })],
    ['not signed', 'BadJwtAlgorithm', await signed({}, { alg: 'none' }), 'BadJwtSignature'],
    ['the algorithm of another curve', 'BadJwtAlgorithm', await signed({}, { alg: 'ES256' }), 'BadJwtSignature'],
    ["another account's key", 'BadJwtAlgorithm', await serviceToken(carols, good), 'BadJwtSignature'],
    [
      'a stranger of the same curve',
      'BadJwtSignature',
      await serviceToken(await Secp256k1Keypair.create(), good),
      'BadJwtSignature',
    ],
    ['an issuer that is no DID', 'BadJwtIss', await signed({ iss: 'kim.test' }), 'BadJwtIss'],
    ['an issuer with a fragment', 'BadJwtIss', await signed({ iss: `${kim.did}#atproto_labeler` })],
    ['another subject', 'BadJwtSubject', await signed({ sub: bob.did }), null],
    ['a DID that is not in the directory', 'UnknownDid', await signed({ iss: NOBODY })],
    [
      'without lxm, as getServiceAuth gives it',
      'BadJwtLexiconMethod',
      await bob.serviceToken(undefined),
      'BadJwtLexiconMethod',
    ],
  ]

  const resolver = new IdResolver({ plcUrl: network.plc, fetch: globalThis.fetch })
  for (const [what, name, token, theirs] of cases) {
    const error = await refused(directly(rookery, kim.did, () => token).xrpc(listDevices), 401, name)
    assert.ok(!error.message.includes(kim.did), 'no message names an account')
    let verdict = ''
    if (theirs !== undefined) {
      const official = await verifyJwt(token, rookery.did, listDevices.$lxm, (did, fresh) =>
        resolver.did.resolveAtprotoKey(did, fresh),
      ).then(
        () => null,
        (refusal) => refusal.error ?? refusal.customErrorName,
      )
      assert.equal(official, theirs, `the official verifier on: ${what}`)
      verdict =
        theirs === null
          ? ' (the official verifier takes it)'
          : theirs === name
            ? ' (the official verifier too)'
            : ` (the official verifier: ${theirs})`
    }
    saw(`${what}: 401 ${name}${verdict}`)
  }

  // Both forms of the signature are the same token (proposal 0014 does not ask for low S).
  const token = await signed({ jti: randomUUID() })
  const client = (which) => directly(rookery, kim.did, () => which)
  await client(withOtherS(token)).call(listDevices)
  await refused(client(token).xrpc(listDevices), 401, 'ReplayedToken')
  saw('a signature with high S is taken; the same token with low S is 401 ReplayedToken')
}

/** The order of secp256k1. */
const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n

function withOtherS(token) {
  const [header, payload, signature] = token.split('.')
  const bytes = Buffer.from(signature, 'base64url')
  const s = ORDER - BigInt(`0x${bytes.subarray(32).toString('hex')}`)
  const other = Buffer.concat([bytes.subarray(0, 32), Buffer.from(s.toString(16).padStart(64, '0'), 'hex')])
  return [header, payload, other.toString('base64url')].join('.')
}

async function ofDevices({ rookery, blue, people: { alice, bob }, saw }) {
  const { getConvos } = blue.catbird.mls
  const now = Math.floor(Date.now() / 1000)
  const stranger = await Device.create(bob.did, rookery.did)
  const cases = [
    ['another audience', 'BadJwtAudience', { claims: { aud: 'did:web:other.example' } }],
    ['another method', 'BadJwtLexiconMethod', { claims: { lxm: 'blue.catbird.mls.sendMessage' } }],
    ['expired', 'JwtExpired', { claims: { iat: now - 120, exp: now - 60 } }],
    ['no jti', 'BadJwtId', { claims: { jti: undefined } }],
    ['no device', 'BadJwtKeyId', { header: { kid: undefined } }],
    ["another device's name", 'BadJwtSignature', { header: { kid: alice.device.id }, claims: { iss: alice.did } }],
    ["another account's name", 'DeviceUnknown', { claims: { iss: alice.did } }],
    ['bound to another body', 'BadJwtBodyHash', { body: 'something' }],
  ]
  for (const [what, name, options] of cases) {
    const token = await bob.device.token(getConvos.$lxm, options)
    await refused(directly(rookery, bob.did, () => token).xrpc(getConvos), 401, name)
    saw(`a device token, ${what}: 401 ${name}`)
  }
  const unknown = await stranger.token(getConvos.$lxm)
  await refused(directly(rookery, bob.did, () => unknown).xrpc(getConvos), 401, 'DeviceUnknown')
  saw('a device token of a device that is not registered: 401 DeviceUnknown')
}
