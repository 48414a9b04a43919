// An account of the PDS with one device, and the ways in which official clients call for it.
import { AtpAgent } from '@atproto/api'
import { Client } from '@atproto/lex'
import { PasswordSession } from '@atproto/lex-password-session'
import { Device } from './device.mjs'
import { Member } from './mls.mjs'

export const nsidOf = (path) => new URL(path, 'http://localhost').pathname.replace('/xrpc/', '')

/**
 * An official client for direct calls: `token` makes the token of each, undefined for none, and `proof` the device's
 * token beside it.
 */
export function directly(rookery, did, token, called, proof) {
  const fetchHandler = async (path, init) => {
    const headers = new Headers(init.headers)
    const shown = await token(nsidOf(path), init.body)
    if (shown !== undefined) headers.set('authorization', `Bearer ${shown}`)
    const beside = await proof?.(nsidOf(path), init.body)
    if (beside !== undefined) headers.set('x-atproto-device-token', beside)
    const answer = await fetch(rookery.url + path, { ...init, headers })
    if (answer.ok) called?.add(nsidOf(path))
    return answer
  }
  return Object.assign(new Client({ did, fetchHandler }), { fetchHandler })
}

export class Person {
  /** `called` collects the methods that answered. */
  static async of(account, network, rookery, called) {
    const person = new Person()
    const { did, handle: identifier, password } = account
    person.did = did
    person.rookery = rookery
    person.device = await Device.create(did, rookery.did)
    person.mls = await Member.of(person.device)
    person.agent = new AtpAgent({ service: network.pds })
    await person.agent.login({ identifier, password })

    // The session repeats what is answered by 401 with the same headers, and passes here each time: a device token that
    // was made before would be refused as used the second time, and hide why it was refused the first.
    const session = (headersFor) =>
      PasswordSession.login({
        service: network.pds,
        identifier,
        password,
        fetch: async (url, init) => {
          const headers = new Headers(init.headers)
          const proxied = headers.has('atproto-proxy')
          if (proxied) {
            for (const [name, value] of Object.entries(await headersFor(nsidOf(url), init))) headers.set(name, value)
          }
          const answer = await fetch(url, { ...init, headers })
          if (proxied && answer.ok) called.add(nsidOf(url))
          return answer
        },
      })
    person.session = await session(() => ({}))
    /** Through the PDS, with the headers that `headersFor` makes for each attempt. */
    person.through = async (headersFor) => new Client(await session(headersFor), { service: rookery.service })
    /** Through the PDS, as the account alone. */
    person.accountThroughPds = new Client(person.session, { service: rookery.service })
    /** The same, with the new device's proof over the body: to register it. */
    person.registeringThroughPds = await person.through(async (nsid, { body }) => ({
      'x-atproto-device-token': await person.device.token(nsid, { body }),
    }))
    /** Through the PDS, with the device's name on reads, and its signature over the body of whatever writes. */
    person.throughPds = await person.through(async (nsid, { method, body }) =>
      method === 'POST'
        ? { 'x-atproto-device-token': await person.device.token(nsid, { body }) }
        : { 'x-atproto-device': person.device.id },
    )
    /** Straight to the server, by tokens that the device signed itself. */
    person.direct = directly(rookery, did, (nsid) => person.device.token(nsid), called)
    /** Straight to the server, by tokens that the PDS minted. */
    person.accountDirect = directly(rookery, did, (nsid) => person.serviceToken(nsid), called)
    /** The same, with the new device's proof over the body: to register it. */
    person.registering = directly(
      rookery,
      did,
      (nsid) => person.serviceToken(nsid),
      called,
      (nsid, body) => person.device.token(nsid, { body }),
    )
    return person
  }

  /** What `com.atproto.server.getServiceAuth` gives. */
  async serviceToken(lxm, aud = this.rookery.did, exp) {
    const { data } = await this.agent.com.atproto.server.getServiceAuth({ aud, lxm, exp })
    return data.token
  }

  /** What registerDevice takes for this person's device. */
  registration() {
    return { publicKey: this.device.publicKey, kind: 'app', platform: 'interop' }
  }
}
