// A real PLC directory and a real PDS, with accounts, for loopback alone: they name each other as localhost, and call nobody
// else.
//
//   PATH=$(staging/interop/setup.sh):$PATH node staging/interop/network.mjs [FILE]
//
// runs until it is ended, and says where everything is as one line of JSON, and in FILE too when one is given, as soon as
// everything stands: {plc, pds, rotationKey, accounts: {alice: {did, handle, password}, …}, own: {carol: {did, curve, privateKey}, …}}.
// Ports are free ones that the system chose; the PLC remembers nothing, the data of the PDS are in a folder that goes
// with it.
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { randomBytes } from 'node:crypto'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { AtpAgent } from '@atproto/api'
import { P256Keypair, Secp256k1Keypair } from '@atproto/crypto'
import didPlc from '@did-plc/lib'
import plcServer from '@did-plc/server'

/** Accounts of the PDS. `lexicons` is where lexicons are published. */
const ACCOUNTS = ['alice', 'bob', 'dora', 'erin', 'fred', 'lexicons']
/** Identities that hold their keys themselves: their tokens are not minted by a PDS. */
const OWN = { carol: P256Keypair, kim: Secp256k1Keypair }

export async function freePort() {
  const server = createServer()
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address()
  await new Promise((done) => server.close(done))
  return port
}

export async function startNetwork() {
  // The PDS reads this when it is loaded.
  process.env.LOG_ENABLED ??= 'false'
  const { PDS, envToCfg, envToSecrets, scripts } = await import('@atproto/pds')

  const plc = plcServer.PlcServer.create({ db: plcServer.Database.mock(), port: await freePort() })
  await plc.start()
  const plcUrl = `http://localhost:${plc.server.address().port}`

  const folder = await mkdtemp(path.join(tmpdir(), 'rookery-pds.'))
  const rotationKey = await Secp256k1Keypair.create({ exportable: true })
  const environment = {
    devMode: true,
    disableSsrfProtection: true,
    port: await freePort(),
    hostname: 'localhost',
    dataDirectory: folder,
    blobstoreDiskLocation: path.join(folder, 'blobs'),
    didPlcUrl: plcUrl,
    inviteRequired: false,
    adminPassword: randomBytes(16).toString('hex'),
    jwtSecret: randomBytes(16).toString('hex'),
    plcRotationKeyK256PrivateKeyHex: Buffer.from(await rotationKey.export()).toString('hex'),
  }
  const startPds = async (more = {}) => {
    const given = { ...environment, ...more }
    const server = await PDS.create(envToCfg(given), envToSecrets(given))
    await server.start()
    return server
  }
  let pds = await startPds()
  const pdsUrl = `http://localhost:${environment.port}`

  const accounts = {}
  for (const name of ACCOUNTS) {
    const [handle, password] = [`${name}.test`, randomBytes(12).toString('hex')]
    const { data } = await new AtpAgent({ service: pdsUrl }).com.atproto.server.createAccount({
      handle,
      password,
      email: `${name}@example.com`,
    })
    accounts[name] = { did: data.did, handle, password }
  }

  const directory = new didPlc.Client(plcUrl)
  const own = {}
  for (const [name, Keypair] of Object.entries(OWN)) {
    const key = await Keypair.create({ exportable: true })
    const did = await directory.createDid({
      signingKey: key.did(),
      handle: `${name}.test`,
      pds: pdsUrl,
      rotationKeys: [rotationKey.did()],
      signer: rotationKey,
    })
    own[name] = { did, curve: key.jwtAlg, privateKey: Buffer.from(await key.export()).toString('hex') }
  }

  // Lexicons of accounts here are looked up at the account that publishes, as DNS would say in the world.
  await pds.destroy()
  pds = await startPds({ lexiconDidAuthority: accounts.lexicons.did })

  return {
    plc: plcUrl,
    pds: pdsUrl,
    rotationKey: environment.plcRotationKeyK256PrivateKeyHex,
    accounts,
    own,
    /** The PDS itself, for what its operator would do: `scripts` are its maintenance commands. */
    operator: { context: () => pds.ctx, scripts },
    directory,
    async stop() {
      await pds.destroy()
      await plc.destroy()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const network = await startNetwork()
  const { plc, pds, rotationKey, accounts, own } = network
  const said = JSON.stringify({ plc, pds, rotationKey, accounts, own })
  const file = process.argv[2]
  if (file) {
    await writeFile(`${file}.new`, said, { mode: 0o600 })
    await rename(`${file}.new`, file)
  }
  console.log(said)
  const stop = async () => {
    await network.stop()
    if (file) await rm(file, { force: true })
    process.exit(0)
  }
  process.on('SIGINT', stop)
  process.on('SIGTERM', stop)
}
