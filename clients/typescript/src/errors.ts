/** Refusals of the server, by the names that their lexicon declares. */
import { XrpcResponseError } from '@atproto/lex-client'
import { type InferMethodError, type Main, type Procedure, type Query, getMain } from '@atproto/lex-schema'

/**
 * Whether a call of `method` was refused by this name. The name is one of the method's lexicon, or it does not compile;
 * what the server says beside it is in `error.body`.
 */
export function isRefused<M extends Procedure | Query, const N extends InferMethodError<M>>(
  error: unknown,
  method: Main<M>,
  name: N,
): error is XrpcResponseError<M> & { error: N } {
  return error instanceof XrpcResponseError && error.error === name && error.method === getMain(method)
}
