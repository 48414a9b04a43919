import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Client, type Server, XrpcResponseError, asDevice, idem, isRefused, lexicons } from '../src/index.ts'
import { ACCOUNT, claims, fakeServer, json, key } from './support.ts'

const RECEIPT = { term: 1, seq: 5, hash: { $bytes: 'AQ' } }
const QUICK = { pauseMs: 5, attemptMs: 500 }
const message = () => ({ stream: 's', idem: idem(), ciphertext: Uint8Array.of(1, 2, 3) })
const { sendMessage } = lexicons.mls

async function device(server: Server): Promise<Client> {
  return new Client(asDevice({ repeat: QUICK, ...server }, { account: ACCOUNT, key: await key('a') }))
}

test('a call whose answer was cut off after the server acted is repeated with the same bytes and a fresh token', async (t) => {
  const taken = new Map<string, number>()
  const server = await fakeServer(t, (response, { body }, nth) => {
    const { idem } = JSON.parse(body) as { idem: string }
    taken.set(idem, (taken.get(idem) ?? 0) + 1)
    if (nth === 1) return void response.socket?.destroy()
    // The second answer breaks off in its middle.
    if (nth === 2) {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': '100' }).write('{"term":')
      return void setTimeout(() => response.socket?.destroy(), 20)
    }
    json(response, 200, RECEIPT)
  })
  const receipt = await (await device(server)).call(sendMessage, message())
  assert.equal(receipt.seq, 5)
  assert.equal(server.asked.length, 3)
  assert.equal(taken.size, 1, 'one logical call')
  assert.equal(new Set(server.asked.map(({ body }) => body)).size, 1, 'the same bytes')
  const tokens = server.asked.map(({ headers }) => claims(String(headers.authorization).slice('Bearer '.length)))
  assert.equal(new Set(tokens.map(({ payload }) => payload['jti'])).size, 3, 'a token each')
  assert(tokens.every(({ payload }) => payload['lxm'] === 'blue.catbird.mls.sendMessage'))
})

test('attempts are bounded, and the last answer goes to the caller', async (t) => {
  const server = await fakeServer(t, (response) => json(response, 503, { error: 'Unavailable', message: 'no' }))
  const call = (await device({ ...server, repeat: { ...QUICK, attempts: 3 } })).call(sendMessage, message())
  await assert.rejects(call, (error) => error instanceof XrpcResponseError && error.error === 'Unavailable')
  assert.equal(server.asked.length, 3)
})

test('a server that is not there is an error of the network after the last attempt', async () => {
  const nowhere = { url: 'http://127.0.0.1:9', did: 'did:web:a.example', repeat: { ...QUICK, attempts: 2 } }
  await assert.rejects((await device(nowhere)).call(sendMessage, message()), { name: 'XrpcFetchError' })
})

test('a race is the caller’s: it is not repeated, and has its name and what the server says beside it', async (t) => {
  const server = await fakeServer(t, (response) =>
    json(response, 409, { error: 'EpochTooOld', message: 'no', currentEpoch: 9 }),
  )
  const call = (await device(server)).call(sendMessage, message())
  await assert.rejects(call, (error) => {
    assert(isRefused(error, sendMessage, 'EpochTooOld'))
    assert(!isRefused(error, sendMessage, 'FutureEpoch'))
    assert(!isRefused(error, lexicons.mls.addMembers, 'FutureEpoch'))
    assert.equal((error.body as Record<string, unknown>)['currentEpoch'], 9)
    return true
  })
  assert.equal(server.asked.length, 1)
})

test('a name that the lexicon does not declare does not compile', () => {
  // @ts-expect-error
  assert(!isRefused(new Error(), sendMessage, 'EpochTooCold'))
})

test('what a server asks for is waited for: Retry-After in seconds, RateLimit-Reset as a time', async (t) => {
  for (const [name, value] of [
    ['retry-after', () => '1'],
    ['ratelimit-reset', () => String(Math.ceil(Date.now() / 1000) + 1)],
  ] as const) {
    const times: number[] = []
    const server = await fakeServer(t, (response, _, nth) => {
      times.push(Date.now())
      if (nth === 1) json(response, 429, { error: 'RateLimitExceeded' }, { [name]: value() })
      else json(response, 200, RECEIPT)
    })
    await (await device(server)).call(sendMessage, message())
    const waited = (times[1] ?? 0) - (times[0] ?? 0)
    assert(waited >= 990 && waited < 4000, `${name}: ${waited} ms`)
  }
})

test('where a limit stands does not matter to an answer that has another reason', async (t) => {
  const reset = { 'ratelimit-reset': String(Math.ceil(Date.now() / 1000) + 3600) }
  const server = await fakeServer(t, (response, _, nth) =>
    nth === 1 ? json(response, 500, { error: 'InternalServerError' }, reset) : json(response, 200, RECEIPT),
  )
  await (await device(server)).call(sendMessage, message())
  assert.equal(server.asked.length, 2)
})

test('a pause that is longer than we would wait is the caller’s to make', async (t) => {
  const server = await fakeServer(t, (response) =>
    json(response, 429, { error: 'RateLimitExceeded', message: 'no' }, { 'retry-after': '3600' }),
  )
  await assert.rejects(
    (await device(server)).call(sendMessage, message()),
    (error) => error instanceof XrpcResponseError && error.headers.get('retry-after') === '3600',
  )
  assert.equal(server.asked.length, 1)
})

test('a token that another one would do for is made anew; any other 401 is the caller’s', async (t) => {
  for (const [error, attempts] of [
    ['JwtTooOld', 2],
    ['ReplayedToken', 2],
    ['DeviceRevoked', 1],
  ] as const) {
    const server = await fakeServer(t, (response, _, nth) =>
      nth === 1 ? json(response, 401, { error, message: 'no' }) : json(response, 200, RECEIPT),
    )
    await (await device(server)).call(sendMessage, message()).catch(() => undefined)
    assert.equal(server.asked.length, attempts, error)
  }
})

test('an attempt that hangs counts as lost', async (t) => {
  const server = await fakeServer(t, (response, _, nth) => void (nth > 1 && json(response, 200, RECEIPT)))
  await (await device({ ...server, repeat: { ...QUICK, attemptMs: 100 } })).call(sendMessage, message())
  assert.equal(server.asked.length, 2)
})

test('a caller who gives up is obeyed at once', async (t) => {
  const server = await fakeServer(t, (response) =>
    json(response, 503, { error: 'Unavailable' }, { 'retry-after': '20' }),
  )
  const began = Date.now()
  const signal = AbortSignal.timeout(100)
  await assert.rejects((await device(server)).call(sendMessage, message(), { signal }))
  assert(Date.now() - began < 5000)
})
