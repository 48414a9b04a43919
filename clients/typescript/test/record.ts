/** Renews test/vectors from the answers of a running development server: `ROOKERY_URL=… node test/record.ts`. */
import { writeFile } from 'node:fs/promises'
import { openAccount } from '../example/directory.ts'
import { Person } from '../example/person.ts'
import {
  Client,
  approvePairing,
  asAccount,
  beginPairing,
  claimPairing,
  deviceToken,
  lexicons,
  listDevices,
  registerDevice,
} from '../src/index.ts'

const url = process.env['ROOKERY_URL'] ?? 'http://localhost:3000'
const { id: did } = (await (await fetch(new URL('/.well-known/did.json', url))).json()) as { id: string }
const server = { url, did }
const alice = await openAccount()
const device = { account: alice.did, key: await Person.newKey() }
await registerDevice(new Client(asAccount(server, alice.did, alice.mint)), server, device, { kind: 'app' })
const phone = await Person.of('phone', server, device)

const key = await Person.newKey()
const pairing = await beginPairing(server, key, { kind: 'app' })
const { chain } = await listDevices(phone.client, alice.did)
await approvePairing(phone.client, server, device, chain, pairing.code, new Uint8Array([1]))
const paired = await claimPairing(server, key, pairing)
const tablet = await Person.of('tablet', server, paired.device)
await tablet.publish(1)
await phone.publish(1)
const stream = await phone.found()
await phone.add(stream, [alice.did])
for (const text of ['one', 'two', 'three']) await phone.send(stream, text)

/** As the server wrote it. */
async function answer(lxm: string, query = ''): Promise<string> {
  const authorization = `Bearer ${await deviceToken(device, { aud: did, lxm })}`
  const response = await fetch(new URL(`/xrpc/${lxm}${query}`, url), { headers: { authorization } })
  return JSON.stringify({ account: alice.did, answer: await response.json() }, null, 1) + '\n'
}
const to = (name: string) => new URL(`vectors/${name}.json`, import.meta.url)
await writeFile(to('events'), await answer(lexicons.event.listEvents.$lxm, '?limit=100'))
await writeFile(to('devices'), await answer(lexicons.account.listDevices.$lxm))
alice.close()
