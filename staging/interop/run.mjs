// Drives a running Rookery with programs that we did not write, beside a real PLC directory and a real PDS.
//
//   make interop                                              builds the server and runs everything
//   PATH=$(staging/interop/setup.sh):$PATH node staging/interop/run.mjs [LAST]
//
// runs the checks in their order, up to one of that name. A line for each point that was seen, the last line is JSON with
// counts; the first thing that is not as it should be ends it with 1. ROOKERY_BIN names another binary than
// target/debug/rookery. Nothing of it leaves this machine, and ports are those that the system gives.
import { generate, scratch } from './generated.mjs'
import { startNetwork } from './network.mjs'
import { Person } from './person.mjs'
import { Rookery } from './rookery.mjs'

/** What one opens, such as the conversation, the next ones use. */
const CHECKS = [
  'service-auth',
  'proxy',
  'conversation',
  'typed-client',
  'subscription',
  'reconnects',
  'slow-subscriber',
  'server-sent-events',
  'refused-tokens',
  'key-rotation',
  'lexicons',
  'rust-client',
  'signatures',
]

/** Small, so that a check sees the end of an answer, and a slow subscriber, soon. */
const SETTINGS = { SSE_HEARTBEAT_MS: '1000', SSE_MAX_SECONDS: '10', SSE_BUFFER_SIZE: '8', FEDERATION: 'open' }

/** What to do at the end, last first. */
const undo = []

async function main(last = CHECKS.at(-1)) {
  if (!CHECKS.includes(last)) throw new Error(`no check is called ${last}: ${CHECKS.join(', ')}`)
  const started = Date.now()
  const seconds = () => Number(((Date.now() - started) / 1000).toFixed(1))
  let points = 0
  let at = 'start'
  let rookery
  const saw = (what) => {
    points += 1
    console.log(`${at.padEnd(18)} ${what}`)
  }
  try {
    const network = await startNetwork()
    undo.push(() => network.stop())
    rookery = new Rookery({ ...SETTINGS, PLC_URL: network.plc })
    undo.push(() => rookery.remove())
    await rookery.start()
    const generated = await scratch()
    undo.push(() => generated.remove())
    const { blue } = await generate(generated.folder)
    // Methods that answered an official client.
    const called = new Set()
    const people = {}
    for (const name of ['alice', 'bob', 'dora']) {
      people[name] = await Person.of(network.accounts[name], network, rookery, called)
    }
    // alice calls through her PDS, the others directly.
    people.alice.viaPds = true
    saw(`a PLC directory at ${network.plc}, a PDS at ${network.pds}, a Rookery at ${rookery.url} (${seconds()} s)`)

    const lab = { network, rookery, blue, people, called, saw }
    const checks = CHECKS.slice(0, CHECKS.indexOf(last) + 1)
    for (at of checks) {
      const { check } = await import(`./checks/${at}.mjs`)
      await check(lab)
    }
    const counts = { checks: checks.length, points, methods: called.size, seconds: seconds() }
    console.log(JSON.stringify({ ok: true, ...counts }))
    return 0
  } catch (error) {
    console.error(error)
    if (rookery) console.error(`--- The server said last:\n${rookery.said()}---`)
    console.log(JSON.stringify({ ok: false, failed: at, points, error: error.message, seconds: seconds() }))
    return 1
  }
}

// However it ends, its Postgres and its folders go with it; what a library left open does not keep it running.
let ending = false
async function end(code, error) {
  if (error) console.error(error)
  if (ending) return
  ending = true
  for (const step of undo.reverse()) await step().catch((mistake) => console.error(mistake))
  process.exit(code)
}
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => end(130))
for (const mistake of ['uncaughtException', 'unhandledRejection']) process.on(mistake, (error) => end(1, error))

await end(await main(process.argv[2]))
