/** One device of somebody, with its conversations: what an application would build on the client. */
import type { ClientState } from 'ts-mls'
import {
  Client,
  type Device,
  DeviceKey,
  type Entry,
  type SavedChains,
  type Server,
  StreamChains,
  type SubscribeOptions,
  asDevice,
  bodyOf,
  idem,
  lexicons,
  subscribe,
} from '../src/index.ts'
import { Mls, SUITE_NUMBER, hex } from './mls.ts'

const { mls } = lexicons

export interface Heard {
  stream: string
  seq: number
  text: string
}

export class Person {
  readonly name: string
  readonly device: Device
  readonly client: Client
  readonly #server: Server
  readonly #mls: Mls
  readonly #groups = new Map<string, { state: ClientState; taken: number }>()
  /** Ciphertexts and commits of its own, which it need not read. */
  readonly #own = new Set<string>()
  /** One thing at a time happens to the groups. */
  #turn: Promise<unknown> = Promise.resolve()

  chains: StreamChains
  readonly heard: Heard[] = []
  connections = 0
  failed: unknown
  #stop = new AbortController()

  private constructor(name: string, server: Server, device: Device, own: Mls) {
    this.name = name
    this.device = device
    this.client = new Client(asDevice(server, device))
    this.#server = server
    this.#mls = own
    this.chains = new StreamChains(device.account, '0')
  }

  static async of(name: string, server: Server, device: Device): Promise<Person> {
    return new Person(name, server, device, await Mls.of(device))
  }

  static newKey(): Promise<DeviceKey> {
    return DeviceKey.generate('EdDSA')
  }

  /** Publishes fresh key packages. A repeat of a call whose answer was lost finds them there. */
  async publish(count: number): Promise<void> {
    const keyPackages = await Promise.all(Array.from({ length: count }, () => this.#mls.keyPackage()))
    const { results } = await this.client.call(mls.publishKeyPackages, { keyPackages })
    for (const { error, message } of results)
      if (error !== undefined && error !== 'DuplicateKeyPackage') throw new Error(`${error}: ${message}`)
  }

  /** From now on it hears what happens, until `rest`. In browsers `proof` is a ticket, as no header can be sent. */
  listen({ saved, proof }: { saved?: SavedChains; proof?: SubscribeOptions['proof'] } = {}): void {
    if (saved) this.chains = StreamChains.restore(this.device.account, saved)
    const { chains } = this
    this.#stop = new AbortController()
    const { signal } = this.#stop
    const follow = async () => {
      const options = { chains, signal, proof, onConnect: () => void this.connections++ }
      for await (const received of subscribe(this.#server, this.device, options))
        if (received.type === 'entry') await this.#alone(() => this.#take(received.entry))
    }
    follow().catch((error) => {
      if (!signal.aborted) this.failed = error
    })
  }

  /** Stops listening; answers what to go on from. */
  rest(): SavedChains {
    this.#stop.abort()
    return this.chains.save()
  }

  /** A conversation of this device alone. */
  async found(): Promise<string> {
    return this.#alone(async () => {
      const { state, groupInfo } = await this.#mls.found()
      const body = { idem: idem(), groupInfo, handshakePolicy: 'opaque' as const }
      const { stream, seq } = await this.client.call(mls.createConvo, body)
      this.#groups.set(stream, { state, taken: seq })
      return stream
    })
  }

  /** Claims a key package of every certified device of the accounts but this one, and adds them in one commit. */
  async add(stream: string, accounts: string[]): Promise<number> {
    return this.#alone(async () => {
      const targets = accounts as `did:${string}:${string}`[]
      const claim = { claimId: idem(), stream, targets, cipherSuites: [SUITE_NUMBER] }
      const answer = await this.client.call(mls.claimKeyPackages, claim)
      const claimed = answer.targets.flatMap(({ account, packages = [], problem }) => {
        if (problem !== undefined) throw new Error(`a key package cannot be claimed: ${problem}`)
        return packages.map((found) => ({ account, ...found }))
      })
      const added = claimed.filter(({ device }) => device !== this.device.key.id)
      const group = this.#group(stream)
      const staged = await this.#mls.add(
        group.state,
        added.map(({ keyPackage }) => keyPackage),
      )
      this.#own.add(hex(staged.commit))
      const adds = added.map(({ account, device, ref }) => ({ account, device, ref }))
      const { commit, welcome, groupInfo } = staged
      const { epoch } = await this.client.call(mls.addMembers, {
        stream,
        idem: idem(),
        commit,
        welcome,
        groupInfo,
        adds,
      })
      group.state = staged.state
      return epoch
    })
  }

  /** Encrypts and sends. */
  async send(stream: string, text: string): Promise<number> {
    return this.#alone(async () => {
      const group = this.#group(stream)
      const { state, ciphertext } = await this.#mls.encrypt(group.state, text)
      group.state = state
      this.#own.add(hex(ciphertext))
      return (await this.client.call(mls.sendMessage, { stream, idem: idem(), ciphertext })).seq
    })
  }

  #group(stream: string) {
    const group = this.#groups.get(stream)
    if (!group) throw new Error(`${this.name} is in no group of stream ${stream}`)
    return group
  }

  #alone<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work)
    this.#turn = done.catch(() => undefined)
    return done
  }

  async #take(entry: Entry): Promise<void> {
    const group = this.#groups.get(entry.stream)
    // A Welcome waits from its commit on; the notice of it may come after messages that it opens.
    if (!group && (entry.kind === '#commit' || entry.kind === '#welcome')) return this.#join()
    // Before the Welcome's commit nothing can be read, and the founder made what is before its first.
    if (!group || entry.seq <= group.taken || !entry.body) return
    group.taken = entry.seq
    const bytes = entry.kind === '#commit' ? bodyOf(entry)?.['commit'] : entry.body
    if (entry.kind !== '#commit' && entry.kind !== '#message') return
    if (!(bytes instanceof Uint8Array)) throw new Error('a commit without its MLS bytes')
    if (this.#own.delete(hex(bytes))) return
    const { state, text } = await this.#mls.receive(group.state, bytes)
    group.state = state
    if (text !== undefined) this.heard.push({ stream: entry.stream, seq: entry.seq, text })
  }

  async #join(): Promise<void> {
    const { welcomes } = await this.client.call(mls.getWelcomes, {})
    for (const { id, stream, seq, ref, welcome } of welcomes) {
      if (!this.#groups.has(stream)) this.#groups.set(stream, { state: await this.#mls.join(welcome, ref), taken: seq })
      await this.client.call(mls.ackWelcome, { id, accepted: true })
    }
  }
}
