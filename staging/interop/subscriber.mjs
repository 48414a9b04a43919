// The official subscription clients, as the checks use them.
import { websocket } from '@atproto/ws-client'
import { Subscription } from '@atproto/xrpc-server'
import { within } from './expect.mjs'

export const PATIENCE_MS = 20_000

/** xrpc-server's Subscription; what it yields was found to be as the generated types say. */
export function subscribe({ rookery, blue }, options) {
  const { $lxm, $message } = blue.catbird.event.subscribe
  return new Subscription({
    service: rookery.socketUrl,
    method: $lxm,
    maxReconnectSeconds: 1,
    validate(message) {
      const { success, reason } = $message.safeParse(message)
      if (!success) throw reason
      return message
    },
    ...options,
  })
}

export const bearer = async (person, lxm) => ({ authorization: `Bearer ${await person.device.token(lxm)}` })

export const bearerOfPds = async (person, lxm) => ({ authorization: `Bearer ${await person.serviceToken(lxm)}` })

/** Takes what comes until `enough` says so of all of it. */
export async function take(subscription, enough) {
  const taken = []
  const taking = (async () => {
    for await (const message of subscription) {
      taken.push(message)
      if (enough(taken)) break
    }
  })()
  await within(PATIENCE_MS, taking, `a subscription with ${taken.length} messages`)
  return taken
}

/** Reads a socket to its end, without coming back. */
export async function closing(url, options) {
  let detail
  const frames = websocket(url, { ...options, shouldReconnect: false, onClose: (closed) => (detail = closed) })
  const reading = (async () => {
    for await (const _ of frames);
  })()
  await within(
    PATIENCE_MS,
    reading.catch(() => {}),
    'a socket that is closed',
  )
  return detail
}

export const kindOf = (message) => message.$type.replace('blue.catbird.event.subscribe', '')

export const isMessage = (message) => kindOf(message) === '#message'
