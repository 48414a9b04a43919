// AT Protocol's public vectors of signatures: `npm run vectors`, with VECTORS_DIR.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { base58btc } from 'multiformats/bases/base58'
import { type PublicKey, verify } from '../src/index.ts'

const folder = process.env['VECTORS_DIR']
assert(folder, 'VECTORS_DIR names the folder of the public vectors')

test('signatures are judged as the public vectors say, K-256 among them', () => {
  const path = join(folder, 'atproto/crypto/signature-fixtures.json')
  const all = JSON.parse(readFileSync(path, 'utf8')) as Record<string, string & boolean>[]
  assert(all.length >= 6)
  for (const one of all) {
    // did:key: a Multikey, whose multicodec has two bytes.
    const raw = base58btc.decode(String(one['publicKeyDid']).slice('did:key:'.length)).subarray(2)
    const given: PublicKey = { alg: one['algorithm'] as unknown as PublicKey['alg'], raw }
    const [message, signature] = ['messageBase64', 'signatureBase64'].map((name) => Buffer.from(one[name]!, 'base64'))
    assert.equal(verify(given, message!, signature!), one['validSignature'], one['comment'])
  }
})
