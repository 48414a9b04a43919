import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ed25519 } from '@noble/curves/ed25519.js'
import { p256 } from '@noble/curves/nist.js'
import { sha512 } from '@noble/hashes/sha2.js'
import { base58btc } from 'multiformats/bases/base58'
import { sha256, utf8 } from '../src/bytes.ts'
import { DeviceKey, type PublicKey, deviceId, isPublicKey, verify } from '../src/index.ts'
import { key } from './support.ts'

const ALGS = ['EdDSA', 'ES256'] as const

test('a device id follows from the raw public key, as the lexicons show', async () => {
  assert.equal((await key('a')).id, 'dev_frhe2hpg7p6alwkq7r7giyn6ga')
  const shown = Buffer.from('Yn8X2JPlaXpLoiCLyAsCkuf1jYEg6zU8G1VCnbnGsZY', 'base64')
  assert.equal(deviceId(shown), 'dev_tvfeeoy7scan6kz6ojvuejopr6')
  assert.deepEqual(shown, Buffer.from((await key('b')).raw))
})

test('a key survives being kept by its caller, and its public form is compressed', async () => {
  for (const alg of ALGS) {
    const made = await DeviceKey.generate(alg)
    assert.equal(made.raw.length, alg === 'EdDSA' ? 32 : 33)
    assert(isPublicKey(alg, made.raw))
    const again = await DeviceKey.import(alg, await made.exportSecret())
    assert.deepEqual([again.id, again.raw], [made.id, made.raw])
    assert.equal((await DeviceKey.fromPair(made.pair)).id, made.id)
  }
})

test('a key that is not extractable signs and cannot be taken out', async () => {
  const made = await DeviceKey.generate('ES256', { extractable: false })
  assert(verify(made, utf8('x'), await made.sign(utf8('x'))))
  await assert.rejects(made.exportSecret())
})

test('every signature has a low S and holds strictly, for its message and key alone', async () => {
  for (const alg of ALGS) {
    const [made, other] = [await DeviceKey.generate(alg), await DeviceKey.generate(alg)]
    for (let n = 0; n < 24; n++) {
      const signature = await made.sign(utf8(`message ${n}`))
      assert(verify(made, utf8(`message ${n}`), signature), `${alg} ${n}`)
      assert(!verify(made, utf8(`message ${n + 1}`), signature))
      assert(!verify(other, utf8(`message ${n}`), signature))
    }
  }
})

test('a signature with a high S, of another length or in DER is refused', async () => {
  const made = await DeviceKey.generate('ES256')
  const signature = await made.sign(utf8('x'))
  const { r, s } = p256.Signature.fromBytes(signature, 'compact')
  const high = new p256.Signature(r, p256.Point.Fn.neg(s))
  assert(!verify(made, utf8('x'), high.toBytes('compact')))
  assert(!verify(made, utf8('x'), p256.Signature.fromBytes(signature, 'compact').toBytes('der')))
  assert(!verify(made, utf8('x'), signature.slice(1)))
})

test('an Ed25519 signature that holds only up to the cofactor is refused, as the server refuses it', async () => {
  const { Point } = ed25519
  const { scalar, pointBytes } = ed25519.utils.getExtendedPublicKey(sha256(utf8('a')))
  // The point of order 2, (0, -1): adding it to R changes nothing that is multiplied by 8.
  const torsion = Point.fromAffine({ x: 0n, y: Point.Fp.neg(1n) })
  const nonce = 12345n
  const sign = (R: typeof torsion) => {
    const hashed = sha512(Buffer.concat([R.toBytes(), pointBytes, utf8('x')])).toReversed()
    const challenge = Point.Fn.create(BigInt('0x' + Buffer.from(hashed).toString('hex')))
    const s = Point.Fn.add(nonce, Point.Fn.mul(challenge, Point.Fn.create(scalar)))
    return Uint8Array.of(...R.toBytes(), ...Point.Fn.toBytes(s))
  }
  const own = { alg: 'EdDSA', raw: pointBytes } as const
  const honest = Point.BASE.multiply(nonce)
  assert(verify(own, utf8('x'), sign(honest)))
  assert(ed25519.verify(sign(honest.add(torsion)), utf8('x'), pointBytes, { zip215: false }), 'the library takes it')
  assert(!verify(own, utf8('x'), sign(honest.add(torsion))))
})

test('what is no point, of small order, uncompressed or of another curve is no key', async () => {
  const [ed, ec] = [await key('a'), await key('a', 'ES256')]
  const identity = Uint8Array.of(1, ...new Uint8Array(31))
  const uncompressed = p256.Point.fromBytes(ec.raw).toBytes(false)
  for (const [alg, raw] of [
    ['EdDSA', identity],
    ['EdDSA', new Uint8Array(32).fill(0xff)],
    ['EdDSA', ec.raw],
    ['ES256', ed.raw],
    ['ES256', uncompressed],
    ['ES256', new Uint8Array(33)],
    ['ES256K', Uint8Array.of(2, ...new Uint8Array(32).fill(0xff))],
    ['none', ed.raw],
  ] as const)
    assert(!isPublicKey(alg, raw), `${alg} ${raw}`)
})

test('a low-S signature of 64 bytes holds, high S and DER do not', () => {
  const message = utf8('rookery signs what it says')
  for (const [alg, multikey, low, high, der] of [
    [
      'ES256',
      'zDnaeeQhzUfwXoRF2vkfUjnVRBpC4mj5DJdUx9X1yrWDnD27D',
      '57dcd2ece66748409b0e0c2ab6c2e00a72be1b80d9ad934ef852d9b8bae51f9421a223b544e686f1cac3b16512150321c26b7bb4a854fe8c25a34f3f54b08d4f',
      '57dcd2ece66748409b0e0c2ab6c2e00a72be1b80d9ad934ef852d9b8bae51f94de5ddc49bb19790f353c4e9aedeafcddfa7b7ef8fec29ff8ce167b83a7b29802',
      '3044022057dcd2ece66748409b0e0c2ab6c2e00a72be1b80d9ad934ef852d9b8bae51f94022021a223b544e686f1cac3b16512150321c26b7bb4a854fe8c25a34f3f54b08d4f',
    ],
    [
      'ES256K',
      'zQ3shp7RSicdFMwkwCygnZekFVbc7FCyoZrdPZ9Yc2Ad6Nx9K',
      '16182aa685f80a3a8a1bbc3e7c5ea142b06c333d8e34271dedf1686e2f229386382b9ec32e6699aeecf102a30fa9b8eb00233959391eea010280dd91dda8ac30',
      '16182aa685f80a3a8a1bbc3e7c5ea142b06c333d8e34271dedf1686e2f229386c7d4613cd1996651130efd5cf0564713ba8ba38d7629b63abd5180faf28d9511',
      '3044022016182aa685f80a3a8a1bbc3e7c5ea142b06c333d8e34271dedf1686e2f2293860220382b9ec32e6699aeecf102a30fa9b8eb00233959391eea010280dd91dda8ac30',
    ],
  ] as const) {
    // A Multikey: its multicodec has two bytes.
    const given: PublicKey = { alg, raw: base58btc.decode(multikey).subarray(2) }
    const holds = (signature: string, of = message) => verify(given, of, Buffer.from(signature, 'hex'))
    assert.deepEqual(
      [low, high, der].map((signature) => holds(signature)),
      [true, false, false],
      alg,
    )
    assert(!holds(low, utf8('another message')))
  }
})
