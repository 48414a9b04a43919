/**
 * Two accounts, three devices, one conversation, and a bad line. Says what happens; ends with another code than 0 when
 * something is not as it should be. `ROOKERY_URL` is a development server, http://localhost:3000 if absent.
 */
import assert from 'node:assert/strict'
import {
  Client,
  approvePairing,
  asAccount,
  beginPairing,
  claimPairing,
  isRefused,
  lexicons,
  listDevices,
  pairingText,
  readPairingText,
  registerDevice,
  type Server,
} from '../src/index.ts'
import { badLine } from './bad-line.ts'
import { openAccount } from './directory.ts'
import { Person } from './person.ts'

const LIMIT_MS = 90_000
const SOON_MS = 20_000

const began = Date.now()
const say = (text: string) => console.log(`${((Date.now() - began) / 1000).toFixed(2).padStart(6)}  ${text}`)
const closing: (() => void)[] = []

async function until(what: string, people: Person[], holds: () => boolean): Promise<void> {
  const last = Date.now() + SOON_MS
  while (!holds()) {
    for (const { failed } of people) if (failed) throw failed
    assert(
      Date.now() < last,
      `waited too long until ${what}: ${JSON.stringify(people.map((p) => [p.name, p.connections, p.heard]))}`,
    )
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

async function story(): Promise<void> {
  const origin = new URL(process.env['ROOKERY_URL'] ?? 'http://localhost:3000')
  const document = (await (await fetch(new URL('/.well-known/did.json', origin))).json()) as { id: string }
  const line = await badLine(origin)
  closing.push(line.close)
  let repeats = 0
  const server: Server = { url: line.url, did: document.id, repeat: { onRepeat: () => void repeats++ } }
  say(`the server is ${server.did}`)

  // Identities, and the first device of each account.
  const newcomer = async (name: string): Promise<Person> => {
    const { did, mint, close } = await openAccount()
    closing.push(close)
    const device = { account: did, key: await Person.newKey() }
    const account = new Client(asAccount(server, did, mint))
    const { state } = await registerDevice(account, server, device, { kind: 'app', platform: 'example' })
    // A port names an account here. In an earlier run it may have named another, which this server still knows.
    if (state !== 'certified') return newcomer(name)
    say(`${name} is ${did}, with ${device.key.id}`)
    return Person.of(name, server, device)
  }
  const phone = await newcomer("alice's phone")
  const laptop = await newcomer("bob's laptop")
  const [alice, bob] = [phone.device.account, laptop.device.account]

  // A second device: it shows a code, the phone reads it.
  const key = await Person.newKey()
  const pairing = await beginPairing(server, key, { kind: 'app', platform: 'example' })
  const shown = pairingText(pairing.code)
  const before = await listDevices(phone.client, phone.device.account)
  const secret = new TextEncoder().encode('what the tablet needs from the phone')
  await approvePairing(phone.client, server, phone.device, before.chain, readPairingText(shown), secret)
  const paired = await claimPairing(server, key, pairing, { account: alice })
  assert.deepEqual(paired.payload, secret)
  assert.deepEqual(paired.chain.devices.sort(), [phone.device.key.id, key.id].sort())
  await assert.rejects(claimPairing(server, key, pairing), (error) =>
    isRefused(error, lexicons.account.claimPairing, 'PairingClaimed'),
  )
  const tablet = await Person.of("alice's tablet", server, paired.device)
  const after = await listDevices(phone.client, phone.device.account, before.chain.head)
  say(`alice's tablet is paired: ${after.chain.head.seq} links in her device chain, all checked`)

  // A conversation.
  const people = [phone, tablet, laptop]
  for (const person of people) {
    await person.publish(3)
    person.listen(person === laptop ? { proof: 'ticket' } : {})
  }
  const stream = await phone.found()
  const epoch = await phone.add(stream, [bob, alice])
  say(`conversation ${stream}: the phone added bob's laptop and the tablet (epoch ${epoch})`)
  const said: { by: Person; seq: number; text: string }[] = []
  const speak = async (by: Person, text: string) => {
    said.push({ by, seq: await by.send(stream, text), text })
  }
  const everybodyHeard = async () => {
    const heardBy = (person: Person) => person.heard.filter((heard) => heard.stream === stream)
    const meantFor = (person: Person) => said.filter(({ by }) => by !== person)
    await until('everybody heard', people, () =>
      people.every((person) => heardBy(person).length >= meantFor(person).length),
    )
    for (const person of people) {
      const expected = meantFor(person).map(({ seq, text }) => ({ stream, seq, text }))
      assert.deepEqual(heardBy(person), expected, `${person.name} heard each message once, and in order`)
    }
  }
  await speak(phone, 'hello from the phone')
  await everybodyHeard()
  await speak(laptop, 'hello from the laptop')
  await speak(tablet, 'hello from the tablet')
  await everybodyHeard()
  say(`${said.length} messages were decrypted by everybody else`)

  // An answer is lost: the call is repeated, and happened once.
  line.loseAnswerTo('blue.catbird.mls.sendMessage')
  await speak(phone, 'did you hear this once?')
  assert(line.lost() === 1 && repeats > 0, 'the answer was lost and the call repeated')
  await everybodyHeard()
  say(`an answer was lost: the call was repeated with the same bytes, and is one entry (${said.at(-1)?.seq})`)

  // Every connection is cut while somebody speaks.
  const connections = people.map((person) => person.connections)
  const cut = line.cut()
  for (let n = 1; n <= 5; n++) await speak(laptop, `while nobody listens, ${n}`)
  await everybodyHeard()
  await until('everybody came back', people, () =>
    people.every((person, i) => person.connections > (connections[i] ?? 0)),
  )
  say(`${cut} connections were cut: everybody resumed, nothing is missing, nothing came twice`)

  // A client that was off goes on from what it kept.
  const saved = JSON.stringify(tablet.rest())
  await speak(phone, 'while the tablet is off')
  tablet.listen({ saved: JSON.parse(saved) })
  await everybodyHeard()
  const { convo } = await phone.client.call(lexicons.mls.getConvo, { stream })
  for (const person of people) {
    const { term, seq, hash } = convo.head
    await until('the chain is at its head', people, () => person.chains.head(stream)?.seq === seq)
    assert.deepEqual(person.chains.head(stream), { term, seq, hash }, `${person.name} has the server's chain`)
  }
  say(`the tablet resumed from what it kept; all three have the same chain, up to entry ${convo.head.seq}`)
  for (const person of people) person.rest()
}

const limit = setTimeout(() => {
  console.error(`FAILED: ${LIMIT_MS / 1000} s were not enough`)
  process.exit(1)
}, LIMIT_MS)
try {
  await story()
  say('ok')
} catch (error) {
  process.exitCode = 1
  console.error('FAILED:', error)
} finally {
  clearTimeout(limit)
  for (const close of closing) close()
  process.exit()
}
