import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sha256, utf8 } from '../src/bytes.ts'
import { DeviceKey, deviceToken, verify } from '../src/index.ts'
import { ACCOUNT, claims, key } from './support.ts'

const WHAT = { aud: 'did:web:a.example', lxm: 'blue.catbird.mls.sendMessage' }

test('a token says who, for whom, which method and until when, and is signed by the device', async () => {
  for (const alg of ['EdDSA', 'ES256'] as const) {
    const device = { account: ACCOUNT, key: await DeviceKey.generate(alg) }
    const token = await deviceToken(device, { ...WHAT, now: 1_795_000_000_500 })
    const { header, payload } = claims(token)
    assert.deepEqual(header, { typ: 'rookery-device+jwt', alg, kid: device.key.id })
    const { jti, ...rest } = payload
    assert.match(String(jti), /^[0-9a-f]{32}$/)
    assert.deepEqual(rest, { iss: ACCOUNT, ...WHAT, iat: 1_795_000_000, exp: 1_795_000_060 })
    const [signed, signature] = [token.slice(0, token.lastIndexOf('.')), token.split('.')[2] ?? '']
    assert(verify(device.key, utf8(signed), Buffer.from(signature, 'base64url')))
  }
})

test('no two tokens are alike', async () => {
  const device = { account: ACCOUNT, key: await key('a') }
  const tokens = await Promise.all(Array.from({ length: 20 }, () => deviceToken(device, WHAT)))
  assert.equal(new Set(tokens.map((token) => claims(token).payload['jti'])).size, 20)
})

test('a token is bound to a body where one is given', async () => {
  const device = { account: ACCOUNT, key: await key('a') }
  const body = utf8('{"a":1}')
  const { payload } = claims(await deviceToken(device, { ...WHAT, body }))
  assert.equal(payload['bodyHash'], Buffer.from(sha256(body)).toString('base64url'))
})
