// Judges lexicons/ as those who read it published will: by both official parsers, by the builder of typed clients, and
// as a PDS reads permission sets. Needs no server and no network.
//
//   PATH=$(staging/interop/setup.sh):$PATH node staging/interop/lexicons.mjs
//
// Invariant: a judge counts only if it refuses something. Each is shown a document that is broken on purpose.
import assert from 'node:assert/strict'
import { cp, readFile, readdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { lexiconDocumentSchema } from '@atproto/lex-document'
import { Lexicons } from '@atproto/lexicon'
import { IncludeScope, RpcPermission } from '@atproto/oauth-scopes'
import { LEXICONS, program, run, scratch } from './generated.mjs'

const AUDIENCE = 'did:web:chat.example.com#atproto_mls'

async function documentsOf(folder) {
  const files = (await readdir(folder, { recursive: true })).filter((file) => file.endsWith('.json'))
  return Promise.all(files.map(async (file) => [file, JSON.parse(await readFile(path.join(folder, file), 'utf8'))]))
}

/** What is wrong, by the parser of @atproto/lex. */
function parsed(documents) {
  return documents.flatMap(([file, document]) => {
    const { success, reason } = lexiconDocumentSchema.safeParse(document)
    return success ? [] : [`${file}: ${reason.message}`]
  })
}

/** By the older one, which also resolves references. */
function parsedByTheOlder(documents) {
  try {
    const lexicons = new Lexicons(documents.map(([, document]) => document))
    for (const [, { id, defs }] of documents) {
      for (const example of defs.main?.type === 'record' ? defs.main.examples : []) {
        lexicons.assertValidRecord(id, example.record)
      }
    }
    return []
  } catch (error) {
    return [error.message]
  }
}

/** By `lex build`: it fails, or says anything. */
async function built(folder) {
  const { folder: place, remove } = await scratch()
  try {
    const out = path.join(place, 'lexicons')
    const flags = ['--lexicons', folder, '--out', out, '--import-ext', '.ts', '--index-file', '--no-pretty']
    const { stdout, stderr } = await run(program('ts-lex'), ['build', ...flags])
    const said = (stdout + stderr).trim()
    if (said) return [`lex build says: ${said}`]
    const { blue } = await import(path.join(out, 'index.ts'))
    return blue ? [] : ['lex build made nothing']
  } catch (error) {
    return [`lex build: ${error.stderr || error.message}`]
  } finally {
    await remove()
  }
}

/** What a set names and a PDS would not grant. */
function notGranted(documents) {
  const sets = documents.map(([, document]) => document).filter(({ defs }) => defs.main?.type === 'permission-set')
  return sets.flatMap(({ id, defs: { main } }) => {
    const granted = IncludeScope.fromString(`include:${id}?aud=${encodeURIComponent(AUDIENCE)}`).toPermissions(main)
    const names = granted.flatMap((one) => (one instanceof RpcPermission ? (one.aud === AUDIENCE ? one.lxm : []) : one.collection))
    const listed = main.permissions.flatMap(({ lxm, collection }) => lxm ?? collection)
    return listed.filter((name) => !names.includes(name)).map((name) => `${id}: a PDS would not grant ${name}`)
  })
}

/** A copy of all documents, one of them changed. */
function broken(documents, id, change) {
  const copy = structuredClone(documents)
  change(copy.find(([, document]) => document.id === id)[1].defs)
  return copy
}

const documents = await documentsOf(LEXICONS)
const sound = [...parsed(documents), ...parsedByTheOlder(documents), ...(await built(LEXICONS)), ...notGranted(documents)]
assert.deepEqual(sound, [])
console.log(`${documents.length} documents: parsed twice, built, and their permission sets granted whole`)

const SEND = 'blue.catbird.mls.sendMessage'
const inline = (defs) => {
  defs.main.input.schema.properties.inner = { type: 'object', properties: {} }
}
assert.equal(parsed(broken(documents, SEND, inline)).length, 1)
const narrowed = broken(documents, 'blue.catbird.mls.declaration', (defs) => {
  defs.main.record.properties.service.maxLength = 5
})
assert.match(parsedByTheOlder(narrowed)[0], /service/)
const stranger = broken(documents, 'blue.catbird.authFullChatClient', (defs) => {
  defs.main.permissions[0].lxm.push('app.bsky.feed.getTimeline')
})
// One name that is not theirs, and nothing of the list is granted.
assert.ok(notGranted(stranger).length > 20)
const { folder, remove } = await scratch()
await cp(LEXICONS, path.join(folder, 'wrong'), { recursive: true })
const [file, document] = broken(documents, SEND, (defs) => (defs.main.output.schema.ref = 'blue.catbird.mls.defs#nothing')).find(
  ([, { id }]) => id === SEND,
)
await writeFile(path.join(folder, 'wrong', file), JSON.stringify(document))
assert.match((await built(path.join(folder, 'wrong')))[0], /lex build: .*nothing/s)
await remove()
console.log('each judge refused a document that was broken on purpose')
