// (i) `rookery lexicons publish` into the repository of an account on the real PDS; the official tools find there what
// lexicons/ holds, and make a client of it.
import assert from 'node:assert/strict'
import { mkdir, readFile, readdir } from 'node:fs/promises'
import path from 'node:path'
import { AtpAgent } from '@atproto/api'
import { install } from '@atproto/lex-installer'
import { quietly } from '../expect.mjs'
import { generate, LEXICONS, run, scratch } from '../generated.mjs'
import { directly } from '../person.mjs'
import { binary } from '../rookery.mjs'

const COLLECTION = 'com.atproto.lexicon.schema'
const SET = 'blue.catbird.authFullChatClient'

export async function check(lab) {
  const { network, saw } = lab
  const documents = await documentsOf(LEXICONS)

  const wrong = await publish(network, 'not-the-password').then(() => assert.fail('it was taken'), (error) => error)
  assert.notEqual(wrong.code, 0)
  assert.match(wrong.stderr, /AuthenticationRequired|password/i)
  assert.equal((await published(network)).size, 0)
  saw('a wrong password publishes nothing, and the exit code says so')

  await publish(network)
  const records = await published(network)
  assert.deepEqual([...records.keys()].sort(), [...documents.keys()].sort())
  for (const [nsid, { value }] of records) {
    const { $type, ...document } = value
    assert.deepEqual([$type, document], [COLLECTION, documents.get(nsid)], nsid)
  }
  saw(`rookery lexicons publish: ${records.size} records on the PDS, each equal to its file in lexicons/`)

  await publish(network)
  const cids = (held) => [...held].map(([nsid, { cid }]) => [nsid, cid]).sort()
  assert.deepEqual(cids(await published(network)), cids(records))
  saw('published again, nothing changes')

  await installed(lab, documents)
  await permissions(lab, documents)
}

/** By NSID. */
async function documentsOf(folder) {
  const files = (await readdir(folder, { recursive: true })).filter((file) => file.endsWith('.json'))
  const read = async (file) => JSON.parse(await readFile(path.join(folder, file), 'utf8'))
  const documents = await Promise.all(files.map(read))
  return new Map(documents.map((document) => [document.id, document]))
}

function publish({ pds, plc, accounts: { lexicons } }, password = lexicons.password) {
  const env = { ...process.env, ROOKERY_ENV: 'development', PLC_URL: plc, ROOKERY_PDS_PASSWORD: password, RUST_LOG: 'warn' }
  delete env.ROOKERY_BIN
  return run(binary(), ['lexicons', 'publish', '--pds', pds, '--identifier', lexicons.handle], { env })
}

/** What the PDS shows to anybody. */
async function published({ pds, accounts: { lexicons } }) {
  const agent = new AtpAgent({ service: pds })
  const records = new Map()
  let cursor
  do {
    const params = { repo: lexicons.did, collection: COLLECTION, limit: 100, cursor }
    const { data } = await agent.com.atproto.repo.listRecords(params)
    for (const record of data.records) records.set(record.uri.split('/').at(-1), record)
    cursor = data.records.length ? data.cursor : undefined
  } while (cursor)
  return records
}

/** `lex install` verifies each record by the repository's signed tree; `lex build` makes a client of what came. */
async function installed({ network, rookery, people: { bob }, saw }, documents) {
  const { folder, remove } = await scratch()
  const lexicons = path.join(folder, 'installed')
  await mkdir(lexicons)
  await quietly(() =>
    install({
      lexicons,
      manifest: path.join(folder, 'lexicons.json'),
      add: [...documents.keys()],
      save: true,
      fetch: globalThis.fetch,
      plcDirectoryUrl: network.plc,
      allowHttp: true,
      // In place of the DNS records of each group.
      hooks: { onResolveAuthority: () => network.accounts.lexicons.did },
    }),
  )
  const found = await documentsOf(lexicons)
  assert.deepEqual([...found.keys()].sort(), [...documents.keys()].sort())
  for (const [nsid, document] of found) {
    const { $type, ...rest } = document
    assert.deepEqual(rest, documents.get(nsid), nsid)
  }
  saw(`lex install fetches and verifies all ${found.size}, equal to lexicons/`)

  const { blue } = await generate(folder, lexicons)
  const client = directly(rookery, bob.did, (lxm) => bob.device.token(lxm))
  const { convos } = await client.call(blue.catbird.mls.getConvos)
  assert.equal(convos.length, 1)
  await remove()
  saw('a client that lex build made of what was published gets an answer')
}

/** What a PDS gives to an app that asks for `include:`. */
async function permissions({ network, rookery, saw }, documents) {
  const { lexiconManager } = network.operator.context().oauthProvider
  const aud = encodeURIComponent(rookery.service)
  const scope = await lexiconManager.buildTokenScope(`atproto include:${SET}?aud=${aud}`)
  const { ScopePermissions } = await import('@atproto/oauth-scopes')
  const granted = new ScopePermissions(scope)
  const methods = [...documents.values()].filter(({ defs }) => /query|procedure|subscription/.test(defs.main?.type))
  const allowed = methods.filter(({ id }) => granted.allowsRpc({ aud: rookery.service, lxm: id })).map(({ id }) => id)
  const listed = documents.get(SET).defs.main.permissions.flatMap((permission) => permission.lxm ?? [])
  assert.deepEqual(allowed.sort(), listed.sort())
  assert.ok(!granted.allowsRpc({ aud: 'did:web:other.example#atproto_mls', lxm: allowed[0] }))
  saw(`the PDS reads the permission set: include:${SET} grants exactly its ${allowed.length} methods, of this service alone`)
}
