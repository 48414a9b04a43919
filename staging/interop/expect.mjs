// Assertions on what comes back.
import assert from 'node:assert/strict'

/** The call is refused with this status and by this name; answers the error. */
export async function refused(call, status, name) {
  const error = await Promise.resolve(call).then(
    (answer) =>
      assert.fail(`expected ${status} ${name}, and it was taken: ${JSON.stringify(answer?.body ?? answer?.data)}`),
    (error) => error,
  )
  // XrpcResponseError of @atproto/lex and XRPCError of @atproto/xrpc have both.
  if (typeof error.status !== 'number') throw error
  assert.deepEqual([error.status, error.error], [status, name], error.message)
  assert.ok(error.message, 'an error says something in words')
  return error
}

/** `task` as a promise that fails when it takes longer. */
export async function within(ms, task, what) {
  let timer
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`${what}: nothing in ${ms} ms`)), ms)
  })
  try {
    return await Promise.race([task, late])
  } finally {
    clearTimeout(timer)
  }
}

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms))

/** Looks again and again, for as long as it is waited for. */
export async function until(condition) {
  while (!condition()) await sleep(20)
}

/** Runs what would print for people. */
export async function quietly(task) {
  const { log, debug } = console
  console.log = console.debug = () => {}
  try {
    return await task()
  } finally {
    Object.assign(console, { log, debug })
  }
}
