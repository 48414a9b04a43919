// (m) Requests between servers, beside an RFC 9421 implementation that is not ours: what docs/FEDERATION.md shows as
// vectors, and what a running server takes and refuses.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { httpbis } from 'http-message-signatures'
import { digest, keyFrom, signRequest, verifier } from '../peer.mjs'

const DOCUMENT = new URL('../../../docs/FEDERATION.md', import.meta.url)
/** The vectors are of one day; whoever verifies them on another must not mind. */
const TOLERANCE_S = 100 * 365 * 24 * 60 * 60

export async function check(lab) {
  await vectors(lab)
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
