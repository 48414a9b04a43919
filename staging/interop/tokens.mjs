// Service tokens as an account's own key makes them, well formed or not.
import { randomUUID } from 'node:crypto'
import { P256Keypair, Secp256k1Keypair } from '@atproto/crypto'

const text = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** The key of an identity of network.mjs that holds it itself. */
export const keyOf = ({ curve, privateKey }) =>
  (curve === 'ES256' ? P256Keypair : Secp256k1Keypair).import(Buffer.from(privateKey, 'hex'), { exportable: true })

/** `claims` and `header` replace what a token says; undefined leaves it out. */
export async function serviceToken(key, { iss, aud, lxm, ...claims }, header = {}) {
  const now = Math.floor(Date.now() / 1000)
  const says = { iat: now, exp: now + 60, iss, aud, lxm, jti: randomUUID(), ...claims }
  const signed = `${text({ typ: 'JWT', alg: key.jwtAlg, ...header })}.${text(says)}`
  return `${signed}.${Buffer.from(await key.sign(Buffer.from(signed))).toString('base64url')}`
}
