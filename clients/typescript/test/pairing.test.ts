import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { lexStringify } from '@atproto/lex-json'
import { base64url, decodeMap, encode as cbor, labelled } from '../src/bytes.ts'
import {
  Client,
  DeviceChain,
  type DeviceKey,
  PairingFailed,
  type Server,
  approvePairing,
  asDevice,
  beginPairing,
  claimPairing,
  pairingText,
  readPairingText,
  verify,
} from '../src/index.ts'
import { ACCOUNT, OTHER, fakeServer, json, key } from './support.ts'

const PAYLOAD = new TextEncoder().encode('what the tablet needs')
const keys = (own: DeviceKey) => ({ key: { alg: own.alg, raw: own.raw }, mlsKeys: [] })

interface Told {
  publicKey: { $bytes: string }
  certificate: { $bytes: string }
  payload: { $bytes: string }
  proof: { $bytes: string }
  idem: string
  issuedAt: number
}
const bytes = ({ $bytes }: { $bytes: string }) => new Uint8Array(Buffer.from($bytes, 'base64'))

/** A server with one pairing, honest but for what a test bends. */
class Fake {
  chain: DeviceChain
  links: Uint8Array[]
  waiting: Uint8Array | undefined
  request: Told | undefined
  certificate: Uint8Array | undefined
  payload: Uint8Array | undefined
  claims: Told[] = []
  pending = 0
  account = ACCOUNT
  certified = true

  constructor(phone: DeviceKey) {
    const [chain, genesis] = DeviceChain.begin(ACCOUNT, 1, keys(phone))
    this.chain = chain
    this.links = [genesis]
  }

  answer(method: string, input: Told, tablet: DeviceKey, phone: DeviceKey): [number, unknown] {
    const reply = (value: Parameters<typeof lexStringify>[0]): [number, unknown] => [
      200,
      JSON.parse(lexStringify(value)),
    ]
    switch (method) {
      case 'createPairing':
        this.waiting = bytes(input.publicKey)
        this.request = input
        return reply({ pairing: 'p', expiresAt: new Date(Date.now() + 300_000).toISOString() })
      case 'approvePairing':
        this.certificate = bytes(input.certificate)
        this.payload ??= bytes(input.payload)
        return reply({ device: tablet.id })
      case 'claimPairing': {
        this.claims.push(input)
        if (this.pending-- > 0 || !this.certificate) return [409, { error: 'PairingPending', message: 'wait' }]
        const { certificate, payload = new Uint8Array() } = this
        return reply({
          account: this.account,
          device: tablet.id,
          stream: 's',
          state: 'certified',
          certificate,
          payload,
        })
      }
      default: {
        const certified = this.certified && this.certificate
        if (certified) this.chain.extend(this.certificate!)
        const devices = [[phone, this.links[0]!] as const, ...(certified ? [[tablet, this.certificate!] as const] : [])]
        return reply({
          devices: devices.map(([{ id, raw, alg }, certificate]) => ({
            device: id,
            kind: 'app',
            state: 'certified',
            publicKey: raw,
            alg,
            certificate,
            createdAt: new Date().toISOString(),
          })),
          chain: { ...this.chain.head },
        })
      }
    }
  }
}

async function stage(t: TestContext) {
  const [phone, tablet] = [await key('phone'), await key('tablet', 'ES256')]
  const fake = new Fake(phone)
  const server: Server = await fakeServer(t, (response, { path, body }) => {
    const input = (body ? JSON.parse(body) : {}) as Told
    json(response, ...fake.answer(path.split('.').at(-1) ?? '', input, tablet, phone))
  })
  const pairing = await beginPairing(server, tablet, { kind: 'app' })
  const approve = (text = pairingText(pairing.code)) => {
    const by = { account: ACCOUNT, key: phone }
    const client = new Client(asDevice(server, by))
    return approvePairing(client, server, by, fake.chain, readPairingText(text), PAYLOAD)
  }
  const claim = (account?: string) => claimPairing(server, tablet, pairing, { everyMs: 5, ...(account && { account }) })
  return { fake, server, phone, tablet, pairing, approve, claim }
}

test('a device that is shown a code vouches for it, and what it leaves is opened by the new one alone', async (t) => {
  const { fake, server, tablet, pairing, approve, claim } = await stage(t)
  assert.deepEqual(fake.waiting, tablet.raw)
  const { issuedAt, proof } = fake.request!
  const request = cbor({ v: 1, audience: server.did, issuedAt, kind: 'app' })
  assert(verify(tablet, labelled('rookery pairing request v1', request), bytes(proof)))
  await approve()
  fake.pending = 2
  const paired = await claim(ACCOUNT)
  assert.deepEqual(paired.payload, PAYLOAD)
  assert.deepEqual([paired.device.account, paired.stream, paired.chain.devices.length], [ACCOUNT, 's', 2])
  assert(!Buffer.from(fake.payload!).includes(Buffer.from(PAYLOAD)), 'the server saw it sealed')
  assert(!Buffer.from(fake.payload!).includes(Buffer.from(pairing.code.sealKey)), 'and was never told the key')
  // One name for the whole wait, and a proof of the key for this server, pairing and name.
  assert.equal(new Set(fake.claims.map(({ idem }) => idem)).size, 1)
  const claimed = cbor({ v: 1, pairing: 'p', audience: server.did, idem: fake.claims[0]!.idem })
  assert(verify(tablet, labelled('rookery pairing claim v1', claimed), bytes(fake.claims[0]!.proof)))
})

test('a server cannot make a payload, nor bend one', async (t) => {
  for (const payload of [new Uint8Array(100), new Uint8Array(3)]) {
    const { fake, approve, claim } = await stage(t)
    fake.payload = payload
    await approve()
    await assert.rejects(claim(), PairingFailed)
  }
  const { fake, approve, claim } = await stage(t)
  await approve()
  fake.payload = fake.payload!.map((byte, i) => (i === 40 ? byte ^ 1 : byte))
  await assert.rejects(claim(), PairingFailed)
})

test('an approval for another account than the one that was meant is refused, and so is a payload moved to one', async (t) => {
  const { fake, phone, tablet, approve, claim } = await stage(t)
  await approve()
  fake.account = OTHER
  await assert.rejects(claim(ACCOUNT), /another account/)
  await assert.rejects(claim(), /link of the device chain/, 'whose chain is not that account’s')
  // Not even with a chain of that account, which vouches for the device.
  const [chain, genesis] = DeviceChain.begin(OTHER, 1, keys(phone))
  Object.assign(fake, { chain, links: [genesis], certificate: await chain.certify(phone, keys(tablet)) })
  await assert.rejects(claim(), /not sealed/)
})

test('a device that the chain does not vouch for is not paired', async (t) => {
  const { fake, approve, claim } = await stage(t)
  await approve()
  fake.certified = false
  await assert.rejects(claim(), /does not vouch/)
})

test('a code is for one server, and any other text is no code', async (t) => {
  const { pairing, approve } = await stage(t)
  const { code } = pairing
  assert.deepEqual(readPairingText(pairingText(code)), code)
  await assert.rejects(approve(pairingText({ ...code, server: 'did:web:b.example' })), /another server/)
  const fields = decodeMap(Buffer.from(pairingText(code).slice('rookery-pair:'.length), 'base64url'))!
  const text = (change: object) => 'rookery-pair:' + base64url(cbor({ ...fields, ...change }))
  assert.deepEqual(readPairingText(text({ later: 'fields are passed over' })), code)
  for (const bad of [
    '',
    'rookery-pair:',
    'rookery-pair:!!!',
    pairingText(code).replace('rookery', 'raven'),
    text({ v: 2 }),
    text({ alg: 'none' }),
    text({ key: new Uint8Array(33) }),
    text({ seal: new Uint8Array(31) }),
    text({ pairing: 1 }),
  ])
    assert.throws(() => readPairingText(bad), PairingFailed, bad)
})
