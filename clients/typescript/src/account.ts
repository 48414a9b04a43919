/** The devices of an account: registering one, and believing a list of them only as far as its chain says the same. */
import { type Agent, Client } from '@atproto/lex-client'
import { type Server, bytesOf } from './agents.ts'
import { equal } from './bytes.ts'
import { type ChainHead, DeviceChain, type MlsKey } from './device-chain.ts'
import { type Device, deviceToken } from './tokens.ts'
import { account as methods } from './lexicons/blue/catbird.ts'

/** The proof of a registration is sent again with each repeat, so it lives longer than a call. */
const PROOF_SECONDS = 600

export interface Registration {
  kind: 'app' | 'machine'
  /** Encrypted by the caller. */
  name?: Uint8Array
  platform?: string
  /** The account's next link, signed by a device that stands. Without one the first device alone is certified. */
  certificate?: Uint8Array
  /** Made by `proveMlsKey`. */
  mlsKeys?: MlsKey[]
  invite?: string
}

/** Makes the device known. `client` is the account's: `asAccount`, or `throughPds` without a device. */
export async function registerDevice(
  client: Client,
  server: Server,
  device: Device,
  registration: Registration,
): Promise<methods.registerDevice.$OutputBody> {
  const body = { ...registration, mlsKeys: registration.mlsKeys?.slice(), publicKey: device.key.raw }
  const answer = await new Client(withProof(client.agent, server, device)).call(methods.registerDevice, body)
  if (answer.device !== device.key.id) throw new UntrueDevices('another device was registered')
  return answer
}

/** The account's calls, each with a token of the device beside it that is good for that body alone. */
function withProof(agent: Agent, server: Server, device: Device): Agent {
  return {
    ...(agent.did && { did: agent.did }),
    fetchHandler: async (path, init) => {
      const body = bytesOf(init.body)
      const lxm = methods.registerDevice.$lxm
      const proof = await deviceToken(device, { aud: server.did, lxm, body, lifetimeSeconds: PROOF_SECONDS })
      const headers = new Headers(init.headers)
      headers.set('x-atproto-device-token', proof)
      return agent.fetchHandler(path, { ...init, headers, body: body ?? null })
    },
  }
}

/** What a server says of an account's devices, and its own links do not. */
export class UntrueDevices extends Error {
  override readonly name = 'UntrueDevices'
  /** The answer as it came. */
  readonly listed: methods.listDevices.$OutputBody | undefined

  constructor(why: string, listed?: methods.listDevices.$OutputBody) {
    super(`the account's device list is not true: ${why}`)
    this.listed = listed
  }
}

export interface Devices {
  readonly devices: methods.listDevices.$OutputBody['devices']
  /** Checked, link by link. Its `head` is what to hand over as `seen` the next time. */
  readonly chain: DeviceChain
}

/**
 * The account's devices. `UntrueDevices`: one is called certified and does not stand in the chain, or the chain is
 * neither the one `seen` before, nor a later generation. The server lists 600 devices: an account that had more has its other
 * links in its own stream, for `DeviceChain.read`.
 */
export async function listDevices(client: Client, account: string, seen?: ChainHead): Promise<Devices> {
  const listed = await client.call(methods.listDevices)
  const untrue = (why: string) => new UntrueDevices(why, listed)
  if (!listed.chain) throw untrue('it has no chain')
  const links = listed.devices.flatMap(({ certificate, revocation }) => [certificate, revocation])
  const chain = DeviceChain.gather(
    account,
    listed.chain.generation,
    links.filter((link) => link !== undefined),
  )
  if (!chain.wentThrough(listed.chain)) throw untrue('its links do not lead to its head')
  for (const { device, state, publicKey } of listed.devices) {
    const standing = chain.device(device)
    if (state === 'certified' && !(standing && equal(standing.key.raw, publicKey)))
      throw untrue('a device is called certified and does not stand in the chain')
  }
  if (seen && !chain.wentThrough(seen) && chain.generation <= seen.generation)
    throw untrue('its chain is another one than before')
  return { devices: listed.devices, chain }
}

/** Ends a device by a link of the chain. `client` is a certified device's. */
export async function revokeDevice(client: Client, by: Device, chain: DeviceChain, device: string): Promise<void> {
  const revocation = await chain.revoke(by.key, device)
  await client.call(methods.revokeDevice, { device, revocation })
}
