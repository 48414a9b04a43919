/** MLS by ts-mls: one device's groups. The leaf's signature key is the device's key. */
import {
  type CiphersuiteImpl,
  type ClientState,
  type Credential,
  type KeyPackage,
  type PrivateKeyPackage,
  type Proposal,
  createApplicationMessage,
  createCommit,
  createGroup,
  decodeMlsMessage,
  defaultCapabilities,
  defaultKeyPackageEqualityConfig,
  defaultKeyRetentionConfig,
  defaultLifetimeConfig,
  defaultPaddingConfig,
  emptyPskIndex,
  encodeMlsMessage,
  generateKeyPackageWithKey,
  getCiphersuiteFromName,
  getCiphersuiteImpl,
  joinGroup,
  processPrivateMessage,
} from 'ts-mls'
// Not createGroupInfoWithExternalPub of the package's front: ts-mls 1.6 writes that extension without its length, and
// the server, which reads it by RFC 9420, refuses it.
import { createGroupInfoWithRatchetTree } from 'ts-mls/createCommit.js'
import { makeKeyPackageRef } from 'ts-mls/keyPackage.js'
import { type Device, deviceId } from '../src/index.ts'

/** 0x0001 of RFC 9420: the server's first choice. */
const SUITE = 'MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519'
export const SUITE_NUMBER = 1
const DAY_S = 24n * 60n * 60n

const config = {
  keyRetentionConfig: defaultKeyRetentionConfig,
  lifetimeConfig: defaultLifetimeConfig,
  keyPackageEqualityConfig: defaultKeyPackageEqualityConfig,
  paddingConfig: defaultPaddingConfig,
  authService: {
    // A leaf says `<did>#<device>`, and a device's id follows from its key: nobody can lend a name.
    async validateCredential(credential: Credential, publicKey: Uint8Array): Promise<boolean> {
      if (credential.credentialType !== 'basic') return false
      return new TextDecoder().decode(credential.identity).endsWith(`#${deviceId(publicKey)}`)
    },
  },
}

interface Own {
  publicPackage: KeyPackage
  privatePackage: PrivateKeyPackage
}

export interface Staged {
  commit: Uint8Array
  welcome: Uint8Array
  groupInfo: Uint8Array
  /** In force once the server took the commit. */
  state: ClientState
}

export class Mls {
  readonly #suite: CiphersuiteImpl
  readonly #keyPackage: () => Promise<Own>
  /** By reference. */
  readonly #packages = new Map<string, Own>()

  private constructor(suite: CiphersuiteImpl, keyPackage: () => Promise<Own>) {
    this.#suite = suite
    this.#keyPackage = keyPackage
  }

  static async of(device: Device): Promise<Mls> {
    const suite = await getCiphersuiteImpl(getCiphersuiteFromName(SUITE))
    const identity = new TextEncoder().encode(`${device.account}#${device.key.id}`)
    const keys = { signKey: await device.key.exportSecret(), publicKey: device.key.raw }
    return new Mls(suite, () => {
      const now = BigInt(Math.floor(Date.now() / 1000))
      const lifetime = { notBefore: now - 3600n, notAfter: now + 84n * DAY_S }
      const credential: Credential = { credentialType: 'basic', identity }
      return generateKeyPackageWithKey(credential, defaultCapabilities(), lifetime, [], keys, suite)
    })
  }

  /** A fresh key package, as it is published. */
  async keyPackage(): Promise<Uint8Array> {
    const own = await this.#keyPackage()
    this.#packages.set(hex(await makeKeyPackageRef(own.publicPackage, this.#suite.hash)), own)
    return encodeMlsMessage({ version: 'mls10', wireformat: 'mls_key_package', keyPackage: own.publicPackage })
  }

  /** A group of this device alone, and what createConvo takes. */
  async found(): Promise<{ state: ClientState; groupInfo: Uint8Array }> {
    const { publicPackage, privatePackage } = await this.#keyPackage()
    const groupId = crypto.getRandomValues(new Uint8Array(32))
    const state = await createGroup(groupId, publicPackage, privatePackage, [], this.#suite, config)
    return { state, groupInfo: await this.#groupInfo(state) }
  }

  /** A commit that adds who is behind these key packages. */
  async add(state: ClientState, keyPackages: Uint8Array[]): Promise<Staged> {
    const extraProposals = keyPackages.map((bytes): Proposal => {
      const message = read(bytes)
      if (message.wireformat !== 'mls_key_package') throw new Error('expected a key package')
      return { proposalType: 'add', add: { keyPackage: message.keyPackage } }
    })
    const context = { state, cipherSuite: this.#suite }
    const made = await createCommit(context, { extraProposals, ratchetTreeExtension: true })
    if (!made.welcome) throw new Error('a commit that adds somebody has a Welcome')
    return {
      commit: encodeMlsMessage(made.commit),
      welcome: encodeMlsMessage({ version: 'mls10', wireformat: 'mls_welcome', welcome: made.welcome }),
      groupInfo: await this.#groupInfo(made.newState),
      state: made.newState,
    }
  }

  /** By a Welcome for the key package of this reference. */
  async join(bytes: Uint8Array, ref: Uint8Array): Promise<ClientState> {
    const [message, own] = [read(bytes), this.#packages.get(hex(ref))]
    if (message.wireformat !== 'mls_welcome' || !own) throw new Error('expected a Welcome for a key package of ours')
    this.#packages.delete(hex(ref))
    const { publicPackage, privatePackage } = own
    return joinGroup(
      message.welcome,
      publicPackage,
      privatePackage,
      emptyPskIndex,
      this.#suite,
      undefined,
      undefined,
      config,
    )
  }

  async encrypt(state: ClientState, text: string): Promise<{ state: ClientState; ciphertext: Uint8Array }> {
    const made = await createApplicationMessage(state, new TextEncoder().encode(text), this.#suite)
    const { privateMessage } = made
    const message = { version: 'mls10', wireformat: 'mls_private_message', privateMessage } as const
    return { state: made.newState, ciphertext: encodeMlsMessage(message) }
  }

  /** Takes in a message or a commit of somebody else; a commit has no text. */
  async receive(state: ClientState, bytes: Uint8Array): Promise<{ state: ClientState; text?: string }> {
    const message = read(bytes)
    if (message.wireformat !== 'mls_private_message') throw new Error('expected a PrivateMessage')
    const result = await processPrivateMessage(state, message.privateMessage, emptyPskIndex, this.#suite)
    if (result.kind === 'newState') return { state: result.newState }
    return { state: result.newState, text: new TextDecoder().decode(result.message) }
  }

  /** With the ratchet tree, without which the server takes none. */
  async #groupInfo(state: ClientState): Promise<Uint8Array> {
    const { groupContext, confirmationTag, ratchetTree } = state
    const groupInfo = await createGroupInfoWithRatchetTree(
      groupContext,
      confirmationTag,
      state,
      ratchetTree,
      [],
      this.#suite,
    )
    return encodeMlsMessage({ version: 'mls10', wireformat: 'mls_group_info', groupInfo })
  }
}

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

function read(bytes: Uint8Array) {
  const decoded = decodeMlsMessage(bytes, 0)
  if (!decoded || decoded[1] !== bytes.length) throw new Error('not exactly one MLSMessage')
  return decoded[0]
}
