/** Device tokens: a JWT that the device signed itself, for one call of one method at one server. */
import { base64url, concat, idem, sha256, utf8 } from './bytes.ts'
import type { DeviceKey } from './keys.ts'

/** A device of an account. */
export interface Device {
  /** The account's DID. */
  readonly account: string
  readonly key: DeviceKey
}

export interface TokenOptions {
  /** The server's DID. */
  aud: string
  /** The method's NSID. */
  lxm: string
  /** The body that is sent, where the call goes through a PDS. */
  body?: Uint8Array | undefined
  /** 1 to 3600. */
  lifetimeSeconds?: number
  now?: number
}

const LIFETIME_SECONDS = 60

/** A fresh token: no two are alike. */
export async function deviceToken(device: Device, options: TokenOptions): Promise<string> {
  const iat = Math.floor((options.now ?? Date.now()) / 1000)
  const header = { typ: 'rookery-device+jwt', alg: device.key.alg, kid: device.key.id }
  const payload = {
    iss: device.account,
    aud: options.aud,
    lxm: options.lxm,
    iat,
    exp: iat + (options.lifetimeSeconds ?? LIFETIME_SECONDS),
    jti: idem(),
    ...(options.body && { bodyHash: base64url(sha256(options.body)) }),
  }
  const signed = [header, payload].map((part) => base64url(utf8(JSON.stringify(part)))).join('.')
  return `${signed}.${base64url(await device.key.sign(concat([utf8(signed)])))}`
}
