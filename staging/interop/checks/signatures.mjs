// (m) Requests between servers, beside an RFC 9421 implementation that is not ours: what docs/FEDERATION.md shows as
// vectors, and what a running server takes and refuses.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { httpbis } from 'http-message-signatures'
import { Secp256k1Keypair } from '@atproto/crypto'
import { Peer, digest, keyFrom, signRequest, verifier } from '../peer.mjs'

const DOCUMENT = new URL('../../../docs/FEDERATION.md', import.meta.url)
/** The vectors are of one day; whoever verifies them on another must not mind. */
const TOLERANCE_S = 100 * 365 * 24 * 60 * 60

export async function check(lab) {
  await vectors(lab)
  const peer = await Peer.start()
  try {
    await taken(lab, peer)
  } finally {
    await peer.stop()
  }
}

/** The fenced blocks of the section with that heading, by their language. */
function blocks(document, heading) {
  const section = document.split(`### ${heading}\n`)[1].split('\n### ')[0]
  const found = section.matchAll(/```(\w+)\n([\s\S]*?)\n```/g)
  return Object.fromEntries([...found].map(([, language, text]) => [language, text]))
}

/** A request, its signature base and its signature, as the document shows them. */
function vector(document, heading) {
  const { json = '', text, http } = blocks(document, heading)
  const lines = text.split('\n').map((line) => line.match(/^"([^"]+)": (.*)$/).slice(1))
  const of = Object.fromEntries(lines)
  const headers = lines.filter(([name]) => !name.startsWith('@'))
  return {
    body: json,
    base: text,
    message: { method: of['@method'], url: of['@target-uri'], headers: Object.fromEntries(headers) },
    input: `peer=${of['@signature-params']}`,
    signature: http.replace('Signature: ', ''),
  }
}

async function vectors({ saw }) {
  const document = await readFile(DOCUMENT, 'utf8')
  const key = keyFrom(createHash('sha256').update('peer test key b.example').digest())
  assert.ok(document.includes(key.multikey) && document.includes(`#peer-${key.tag}`))
  saw(`the key of the vectors is ${key.multikey}, its tag ${key.tag}`)

  for (const heading of ['A forwarded call', 'A query for nobody']) {
    const { body, base, message, input, signature } = vector(document, heading)
    assert.equal(digest(body), message.headers['content-digest'])

    // Their base, from the request alone.
    let theirs
    const check = verifier(key.multikey)
    const verify = (data, given) => {
      theirs = data.toString()
      return check(data, given)
    }
    const keyLookup = async ({ keyid }) => ({ id: keyid, algs: ['ed25519'], verify })
    const config = { keyLookup, tolerance: TOLERANCE_S, requiredParams: ['created', 'expires', 'nonce', 'tag'] }
    const signed = { ...message.headers, 'signature-input': input, signature }
    assert.equal(await httpbis.verifyMessage(config, { ...message, headers: signed }), true)
    assert.equal(theirs, base)

    // Each thing that is covered, changed.
    for (const name of Object.keys(message.headers)) {
      const headers = { ...signed, [name]: `${signed[name]}x` }
      assert.equal(await httpbis.verifyMessage(config, { ...message, headers }), false, name)
    }
    assert.equal(await httpbis.verifyMessage(config, { ...message, url: `${message.url}x`, headers: signed }), false)
    assert.equal(await httpbis.verifyMessage(config, { ...message, method: 'PUT', headers: signed }), false)

    // Their signature over the same: Ed25519 gives one.
    const value = (name) => input.match(new RegExp(`;${name}="?([^";]+)`))[1]
    const values = {
      created: new Date(Number(value('created')) * 1000),
      expires: new Date(Number(value('expires')) * 1000),
      nonce: value('nonce'),
      keyid: value('keyid'),
      tag: value('tag'),
    }
    const made = await signRequest(key, message, values)
    assert.deepEqual([made.headers['Signature-Input'], made.headers.Signature], [input, signature])
    saw(`${heading.toLowerCase()}: http-message-signatures makes the base and the signature of docs/FEDERATION.md, and`)
    saw(`${heading.toLowerCase()}: verifies them, and nothing of which a covered component was changed`)
  }
}

/** Well-formed, and nobody's. */
const NO_STREAM = 's' + 'a'.repeat(32)

/** What a running server makes of requests that `http-message-signatures` signed. */
async function taken({ network, rookery, saw }, peer) {
  const said = await rookery.command('peer', 'allow', peer.did)
  assert.ok(said.includes(`${peer.did}  allowed`), said)

  // An account that lives on that server by its DID document, and one that does not. The first is of this check alone: what
  // the others are known by may have been looked up a moment ago, and is not asked for again so soon.
  const signer = await Secp256k1Keypair.import(network.rotationKey, { exportable: true })
  const actor = await network.directory.createDid({
    signingKey: (await Secp256k1Keypair.create()).did(),
    handle: 'lee.test',
    pds: network.pds,
    rotationKeys: [signer.did()],
    signer,
  })
  await network.directory.updateData(actor, signer, (last) => ({
    ...last,
    services: { ...last.services, atproto_mls: { type: 'AtprotoMlsService', endpoint: peer.url } },
  }))
  const stranger = network.own.carol.did

  const nsid = 'blue.catbird.mls.getGroupState'
  const call = { params: { stream: NO_STREAM }, actor, device: 'd1' }
  const answers = async (options, status, error, what) => {
    const request = { nsid, ...call, ...options }
    const answer = await peer.send(await peer.request(rookery, request.nsid, request))
    assert.deepEqual([answer.status, answer.body.error], [status, error], `${what}: ${answer.body.message}`)
    saw(`a request that http-message-signatures signed, ${what}: ${status} ${error}`)
  }
  // Who is proven is told that there is no such conversation.
  await answers({}, 404, 'StreamNotFound', 'as it should be')

  const header = (name, value) => (request) => ({ ...request, headers: { ...request.headers, [name]: value } })
  const now = Date.now()
  const at = (seconds) => new Date(now + seconds * 1000)
  const other = digest('something else')
  await answers({ change: header('x-rookery-device', 'd2') }, 401, 'SignatureInvalid', 'with another device')
  await answers({ change: header('x-rookery-actor', stranger) }, 401, 'SignatureInvalid', 'with another actor')
  await answers({ change: header('content-digest', other) }, 401, 'SignatureMalformed', 'with the digest of a body')
  await answers({ change: header('x-rookery-audience', 'did:web:b.example') }, 401, 'WrongAudience', 'for another server')
  await answers(
    { change: (request) => ({ ...request, url: `${request.url}x` }) },
    401,
    'SignatureInvalid',
    'with another query',
  )
  await answers({ change: header('x-rookery-more', 'x') }, 401, 'SignatureMalformed', 'with a header that is not covered')
  await answers({ actor: stranger }, 403, 'NotSpokenFor', 'for an account of another server')
  await answers({ values: { tag: 'another' } }, 401, 'SignatureMissing', 'with another tag')
  await answers({ values: { created: at(-120), expires: at(-60) } }, 401, 'SignatureExpired', 'of two minutes ago')
  await answers({ values: { expires: at(120) } }, 401, 'SignatureExpired', 'good for two minutes')
  await answers({ values: { keyid: `${peer.did}#peer-aaaaaaaa` } }, 401, 'PeerKeyUnknown', 'by a key that is not there')

  const leaving = {
    nsid: 'blue.catbird.mls.leaveConvo',
    params: undefined,
    input: { stream: NO_STREAM, idem: 'a-name-for-this-call' },
  }
  await answers(leaving, 404, 'StreamNotFound', 'with a body')
  const body = (request) => ({ ...request, body: request.body.replace('a-name', 'b-name') })
  await answers({ ...leaving, change: body }, 401, 'DigestMismatch', 'with another body')
  const kind = header('content-type', 'application/json; charset=utf-8')
  await answers({ ...leaving, change: kind }, 401, 'SignatureInvalid', 'with another content type')

  const twice = await peer.request(rookery, nsid, call)
  assert.equal((await peer.send(twice)).status, 404)
  const again = await peer.send(twice)
  assert.deepEqual([again.status, again.body.error], [401, 'SignatureReplayed'])
  saw('a request that http-message-signatures signed, twice: 401 SignatureReplayed')
}
