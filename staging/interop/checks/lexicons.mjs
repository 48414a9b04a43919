// (i) `rookery lexicons publish` into the repository of an account on the real PDS; the official tools find there what
// lexicons/ holds, and make a client of it.
import assert from 'node:assert/strict'
import { mkdir, readFile, readdir } from 'node:fs/promises'
import path from 'node:path'
import { AtpAgent } from '@atproto/api'
import { install } from '@atproto/lex-installer'
import { ScopePermissions } from '@atproto/oauth-scopes'
import { quietly } from '../expect.mjs'
import { generate, LEXICONS, run, scratch } from '../generated.mjs'
import { directly } from '../person.mjs'
import { binary } from '../rookery.mjs'

const COLLECTION = 'com.atproto.lexicon.schema'
const SET = 'blue.catbird.authFullChatClient'

export async function check(lab) {
  const { network, saw } = lab
  const documents = await documentsOf(LEXICONS)

  const wrong = await publish(network, 'not-the-password').then(
    () => assert.fail('it was taken'),
    (error) => error,
  )
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
  saw(
    `rookery lexicons publish: ${records.size} records on the PDS, each equal to its file in lexicons/ but for the examples`,
  )

  await publish(network)
  const cids = (held) => [...held].map(([nsid, { cid }]) => [nsid, cid]).sort()
  assert.deepEqual(cids(await published(network)), cids(records))
  saw('published again, nothing changes')

  await installed(lab, documents)
  await permissions(lab, documents)
}

/** By NSID, without the examples: Lexicon has no word for those, and they are not published. */
async function documentsOf(folder) {
  const files = (await readdir(folder, { recursive: true })).filter((file) => file.endsWith('.json'))
  const read = async (file) => JSON.parse(await readFile(path.join(folder, file), 'utf8'))
  const documents = await Promise.all(files.map(read))
  for (const { defs } of documents) delete defs.main?.examples
  return new Map(documents.map((document) => [document.id, document]))
}

function publish({ pds, plc, accounts: { lexicons } }, password = lexicons.password) {
  const env = {
    ...process.env,
    ROOKERY_ENV: 'development',
    PLC_URL: plc,
    ROOKERY_PDS_PASSWORD: password,
    RUST_LOG: 'warn',
  }
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
  saw(`lex install fetches and verifies all ${found.size}, equal to what lexicons/ holds`)

  const { blue } = await generate(folder, lexicons)
  const client = directly(rookery, bob.did, (lxm) => bob.device.token(lxm))
  const { convos } = await client.call(blue.catbird.mls.getConvos)
  assert.equal(convos.length, 1)
  await remove()
  saw('a client that lex build made of what was published gets an answer')
}

/**
 * What a PDS gives to an app that asks for `include:`. The service is one without a port: the official scopes do not encode
 * the percent sign of did:web:localhost%3A3000 a second time, and find no method of it allowed.
 */
async function permissions({ network, saw }, documents) {
  const service = 'did:web:mls.example.com#atproto_mls'
  const { lexiconManager } = network.operator.context().oauthProvider
  const asked = `atproto include:${SET}?aud=${encodeURIComponent(service)}`
  const granted = new ScopePermissions(await lexiconManager.buildTokenScope(asked))

  const methods = [...documents.values()].filter(({ defs }) => /query|procedure|subscription/.test(defs.main?.type))
  const allowed = methods.filter(({ id }) => granted.allowsRpc({ aud: service, lxm: id })).map(({ id }) => id)
  const listed = documents.get(SET).defs.main.permissions.flatMap((permission) => permission.lxm ?? [])
  assert.ok(allowed.length > 0)
  assert.deepEqual(allowed.sort(), listed.sort())
  assert.ok(!granted.allowsRpc({ aud: 'did:web:other.example#atproto_mls', lxm: allowed[0] }))
  assert.ok(!granted.allowsRpc({ aud: service, lxm: 'blue.catbird.admin.listAccounts' }))
  saw(`the PDS reads the permission set: include:${SET} grants its ${allowed.length} methods, of that service alone`)
}
