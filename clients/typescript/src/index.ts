/** A thin client for Rookery. Methods and their types are in `./lexicons`; MLS is the caller's. */
export { Client, type Agent, XrpcResponseError, xrpc } from '@atproto/lex-client'
export { type Devices, type Registration, UntrueDevices, listDevices, registerDevice, revokeDevice } from './account.ts'
export { type Server, anyone, asAccount, asDevice, throughPds } from './agents.ts'
export { idem } from './bytes.ts'
export {
  BadLink,
  type BadLinkReason,
  type ChainHead,
  DeviceChain,
  type DeviceKeys,
  type MlsKey,
  proveMlsKey,
} from './device-chain.ts'
export { isRefused } from './errors.ts'
export { type Alg, DeviceKey, type PublicKey, type SigningAlg, deviceId, isPublicKey, verify } from './keys.ts'
export * as lexicons from './lexicons/blue/catbird.ts'
export {
  type Paired,
  type Pairing,
  type PairingCode,
  PairingFailed,
  approvePairing,
  beginPairing,
  claimPairing,
  pairingText,
  readPairingText,
} from './pairing.ts'
export type { RepeatOptions } from './repeat.ts'
export {
  BrokenChain,
  type BrokenReason,
  type Entry,
  type Head,
  type Lost,
  type PlainEntry,
  type SavedChains,
  StreamChains,
  bodyOf,
} from './stream-chains.ts'
export { BadFrame, type Received, type SubscribeOptions, SubscriptionRefused, subscribe } from './subscribe.ts'
export { type Device, type TokenOptions, deviceToken } from './tokens.ts'
