/**
 * Calls that were lost are repeated.
 *
 * Invariant: a repeat has the very bytes of the first try, so with its `idem` it is the same call to the server; only
 * its token is new. A refusal (400 to 499, but for 408, 425 and 429) is the caller's: a race is never run again here.
 */

export interface RepeatOptions {
  /** Tries in all. */
  attempts?: number
  /** The bound of the first pause, in milliseconds; it doubles with every try. */
  pauseMs?: number
  /** No pause is longer, in milliseconds. A server that asks for more is believed: its answer goes to the caller. */
  longestPauseMs?: number
  /** A try that has no whole answer by then counts as lost, in milliseconds. */
  attemptMs?: number
  /** Told of every try that is repeated. */
  onRepeat?: (why: Response | Error, attempt: number) => void
}

const DEFAULTS = { attempts: 6, pauseMs: 500, longestPauseMs: 30_000, attemptMs: 30_000 }
/** Tokens that another one would do for: the server lost its memory, or somebody below us sent one twice. */
const TOKENS = ['JwtTooOld', 'ReplayedToken']
const PASSING = new Set([408, 425, 429, 500, 502, 503, 504])

/** Makes tries until one has an answer to go by. `attempt` must send the same bytes each time. */
export async function repeat(
  attempt: (signal: AbortSignal) => Promise<Response>,
  options: RepeatOptions = {},
  signal?: AbortSignal | null,
): Promise<Response> {
  const { attempts, pauseMs, longestPauseMs, attemptMs } = { ...DEFAULTS, ...options }
  for (let tried = 1; ; tried++) {
    signal?.throwIfAborted()
    let outcome: Response | Error
    try {
      const timeout = AbortSignal.timeout(attemptMs)
      outcome = await whole(await attempt(signal ? AbortSignal.any([signal, timeout]) : timeout))
      if (!(await passes(outcome))) return outcome
    } catch (error) {
      signal?.throwIfAborted()
      outcome = error instanceof Error ? error : new Error(String(error))
    }
    const asked = outcome instanceof Error ? undefined : askedPauseMs(outcome)
    if (tried >= attempts || (asked ?? 0) > longestPauseMs) {
      if (outcome instanceof Error) throw outcome
      return outcome
    }
    options.onRepeat?.(outcome, tried)
    // Full jitter: those who were refused together do not come back together.
    const bound = asked === undefined ? Math.min(pauseMs * 2 ** (tried - 1), longestPauseMs) : pauseMs
    await sleep((asked ?? 0) + Math.random() * bound, signal)
  }
}

/** The answer with its body: a connection that is cut in the middle of one has given none. */
async function whole(response: Response): Promise<Response> {
  if (response.headers.get('content-type')?.startsWith('text/event-stream')) return response
  const body = await response.arrayBuffer()
  return new Response(body.byteLength ? body : null, response)
}

async function passes(response: Response): Promise<boolean> {
  if (PASSING.has(response.status)) return true
  if (response.status !== 401) return false
  const told: unknown = await response
    .clone()
    .json()
    .catch(() => null)
  return TOKENS.includes(String((told as { error?: unknown } | null)?.error))
}

/** Retry-After (seconds, or a date); or, where the limit is the reason, RateLimit-Reset (a time in seconds). */
function askedPauseMs({ status, headers }: Response): number | undefined {
  const [after, reset] = ['retry-after', 'ratelimit-reset'].map((name) => headers.get(name)?.trim())
  if (after && /^\d+$/.test(after)) return Number(after) * 1000
  const until = after ? Date.parse(after) : status === 429 ? Number(reset || NaN) * 1000 : NaN
  return Number.isNaN(until) ? undefined : Math.max(0, until - Date.now())
}

/** Ends early when the signal is aborted. */
export function sleep(ms: number, signal?: AbortSignal | null): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer)
      reject(signal?.reason)
    }
    if (signal?.aborted) return reject(signal.reason)
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop)
      resolve()
    }, ms)
    signal?.addEventListener('abort', stop, { once: true })
  })
}
