/** Bytes as every implementation of the protocol must make them: canonical DAG-CBOR, labelled hashes, base32. */
import { decode, encode as cbor } from '@atproto/lex-cbor'
import { type LexValue, toBase64, ui8Concat, ui8Equals } from '@atproto/lex-data'
import { sha256 } from '@noble/hashes/sha2.js'
import { base32 as rfc4648 } from 'multiformats/bases/base32'

export { sha256, ui8Concat as concat, ui8Equals as equal }

const text = new TextEncoder()

export const utf8 = (value: string): Uint8Array<ArrayBuffer> => text.encode(value)
/** Equal bytes have equal names. `String` would not do: to a Buffer it means UTF-8. */
export const nameOf = (bytes: Uint8Array): string => toBase64(bytes)
export const base64url = (bytes: Uint8Array): string => toBase64(bytes, 'base64url')
/** Lower case, without padding. */
export const base32 = (bytes: Uint8Array): string => rfc4648.baseEncode(bytes)

/** `label ‖ 0x00 ‖ bytes`: what is signed, and what is hashed, so that one label never stands for another. */
export const labelled = (label: string, bytes: Uint8Array): Uint8Array<ArrayBuffer> =>
  ui8Concat([utf8(label), Uint8Array.of(0), bytes])

/** `H(label, bytes)` of the protocol: SHA-256. */
export const hash = (label: string, bytes: Uint8Array): Uint8Array => sha256(labelled(label, bytes))

/** Canonical DAG-CBOR. A copy: what Node's encoder gives may be part of a larger buffer. */
export const encode = (value: LexValue): Uint8Array<ArrayBuffer> => new Uint8Array(cbor(value))

/** A map, if the bytes are its one canonical form; otherwise nothing. */
export function decodeMap(bytes: Uint8Array): Record<string, LexValue> | undefined {
  try {
    const value = decode(bytes)
    const isMap = typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype
    return isMap && ui8Equals(cbor(value), bytes) ? (value as Record<string, LexValue>) : undefined
  } catch {
    return undefined
  }
}

/** A name for one call, of which a repeat is the same call: 32 characters. */
export function idem(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('')
}
