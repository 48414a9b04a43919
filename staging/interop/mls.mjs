// One device's side of MLS groups, by ts-mls: an implementation of RFC 9420 that is not ours.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import {
  acceptAll,
  createApplicationMessage,
  createCommit,
  createGroup,
  decodeMlsMessage,
  defaultCapabilities,
  emptyPskIndex,
  encodeMlsMessage,
  generateKeyPackageWithKey,
  getCiphersuiteFromName,
  getCiphersuiteImpl,
  joinGroup,
  processMessage,
} from 'ts-mls'
import { encode } from 'ts-mls/codec/tlsEncoder.js'
import { varLenDataEncoder } from 'ts-mls/codec/variableLength.js'
import { createGroupInfoWithRatchetTree } from 'ts-mls/createCommit.js'
import { makeKeyPackageRef } from 'ts-mls/keyPackage.js'

/** 0x0001 of RFC 9420 section 17.1. */
export const SUITE = 1
const suite = await getCiphersuiteImpl(getCiphersuiteFromName('MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519'))
const DAY_S = 24n * 60n * 60n

const message = (wireformat, content) => encodeMlsMessage({ version: 'mls10', wireformat, ...content })

function read(bytes, ...wireformats) {
  const [decoded, length] = decodeMlsMessage(bytes, 0)
  assert.equal(length, bytes.length, 'an MLSMessage and nothing behind it')
  assert.ok(wireformats.includes(decoded.wireformat), `a ${wireformats}, not a ${decoded.wireformat}`)
  return decoded
}

export class Member {
  #keys
  #credential
  /** Key packages with their secrets, until a Welcome uses one. */
  #packages = []
  #states = new Map()

  static async of(device) {
    const member = new Member()
    member.#keys = await device.signatureKeys()
    member.#credential = {
      credentialType: 'basic',
      identity: new TextEncoder().encode(`${device.account}#${device.id}`),
    }
    return member
  }

  async #package() {
    const now = BigInt(Math.floor(Date.now() / 1000))
    const lifetime = { notBefore: now - 3600n, notAfter: now + 30n * DAY_S }
    return generateKeyPackageWithKey(this.#credential, defaultCapabilities(), lifetime, [], this.#keys, suite)
  }

  /** A fresh key package as an MLSMessage, and its reference. */
  async keyPackage() {
    const made = await this.#package()
    this.#packages.push(made)
    return {
      bytes: message('mls_key_package', { keyPackage: made.publicPackage }),
      ref: await makeKeyPackageRef(made.publicPackage, suite.hash),
    }
  }

  /** A new group; answers its id and the GroupInfo of epoch 0 with its tree. */
  async create() {
    const { publicPackage, privatePackage } = await this.#package()
    const groupId = randomBytes(32)
    const state = await createGroup(groupId, publicPackage, privatePackage, [], suite)
    this.#states.set(groupId.toString('hex'), state)
    return {
      groupId,
      groupInfo: await this.groupInfo(state),
      /** As ts-mls would make it by itself. */
      itsGroupInfo: await this.groupInfo(state, { asTsMls: true }),
    }
  }

  /**
   * With its tree and the key for external commits. The latter is put in here and not by ts-mls, because 1.6.4 leaves out
   * the length that stands before it (RFC 9420 section 12.4.3.2: external_pub is an opaque vector in the extension).
   */
  async groupInfo(state, { asTsMls = false } = {}) {
    const pair = await suite.hpke.deriveKeyPair(state.keySchedule.externalSecret)
    const key = await suite.hpke.exportPublicKey(pair.publicKey)
    const extension = { extensionType: 'external_pub', extensionData: asTsMls ? key : encode(varLenDataEncoder)(key) }
    const { groupContext, confirmationTag, ratchetTree } = state
    const groupInfo = await createGroupInfoWithRatchetTree(
      ...[groupContext, confirmationTag, state, ratchetTree, [extension], suite],
    )
    return message('mls_group_info', { groupInfo })
  }

  #state(groupId) {
    return this.#states.get(Buffer.from(groupId).toString('hex'))
  }

  epoch(groupId) {
    return Number(this.#state(groupId).groupContext.epoch)
  }

  /** Equal for all who share the epoch's secrets (RFC 9420 section 8.7). */
  authenticator(groupId) {
    return Buffer.from(this.#state(groupId).keySchedule.epochAuthenticator).toString('hex')
  }

  /** Commits `proposals`; what to send, and `confirm` for when the server took it. */
  async #commit(groupId, extraProposals) {
    const { newState, commit, welcome } = await createCommit(
      { state: this.#state(groupId), cipherSuite: suite },
      { extraProposals, ratchetTreeExtension: true },
    )
    return {
      commit: encodeMlsMessage(commit),
      welcome: welcome && message('mls_welcome', { welcome }),
      groupInfo: await this.groupInfo(newState),
      confirm: () => this.#states.set(Buffer.from(groupId).toString('hex'), newState),
    }
  }

  add(groupId, keyPackages) {
    const adds = keyPackages.map((bytes) => read(bytes, 'mls_key_package').keyPackage)
    return this.#commit(
      groupId,
      adds.map((keyPackage) => ({ proposalType: 'add', add: { keyPackage } })),
    )
  }

  /** Removes the leaves that say so in their credential: `<did>#<device>`. */
  remove(groupId, identities) {
    const tree = this.#state(groupId).ratchetTree
    const removals = []
    for (let node = 0; node < tree.length; node += 2) {
      const leaf = tree[node]?.leaf
      if (leaf && identities.includes(new TextDecoder().decode(leaf.credential.identity))) {
        removals.push({ proposalType: 'remove', remove: { removed: node / 2 } })
      }
    }
    assert.equal(removals.length, identities.length, 'everybody to remove has a leaf')
    return this.#commit(groupId, removals)
  }

  /** Joins by a Welcome for one of the key packages made here; answers the group's id. */
  async join(bytes, ref) {
    const { welcome } = read(bytes, 'mls_welcome')
    for (const made of this.#packages) {
      const own = Buffer.from(await makeKeyPackageRef(made.publicPackage, suite.hash))
      if (!own.equals(ref)) continue
      const state = await joinGroup(welcome, made.publicPackage, made.privatePackage, emptyPskIndex, suite)
      this.#states.set(Buffer.from(state.groupContext.groupId).toString('hex'), state)
      return state.groupContext.groupId
    }
    throw new Error('a Welcome for a key package that was not made here')
  }

  async encrypt(groupId, plaintext) {
    const made = await createApplicationMessage(this.#state(groupId), new TextEncoder().encode(plaintext), suite)
    this.#states.set(Buffer.from(groupId).toString('hex'), made.newState)
    return message('mls_private_message', { privateMessage: made.privateMessage })
  }

  /** Takes a message of the group in; the plaintext of an application message, undefined for a commit. */
  async receive(groupId, bytes) {
    const received = read(bytes, 'mls_private_message', 'mls_public_message')
    const taken = await processMessage(received, this.#state(groupId), emptyPskIndex, acceptAll, suite)
    this.#states.set(Buffer.from(groupId).toString('hex'), taken.newState)
    return taken.kind === 'applicationMessage' ? new TextDecoder().decode(taken.message) : undefined
  }
}
