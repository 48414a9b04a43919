// Our own Rust client with accounts of a PDS that is not ours: it logs in, and the PDS mints its service tokens.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { binary } from '../rookery.mjs'

const PATIENCE_MS = 60_000

export async function check({ network, rookery, saw }) {
  const credentials = ({ handle, password }) => `${handle}:${password}`
  const { erin, fred } = network.accounts
  const example = path.join(path.dirname(binary()), 'examples', 'conversation')
  const { stdout } = await promisify(execFile)(example, {
    timeout: PATIENCE_MS,
    env: { ROOKERY_URL: rookery.url, PDS_URL: network.pds, ALICE: credentials(erin), BOB: credentials(fred) },
  })
  const lines = stdout.trim().split('\n')
  assert.match(lines.at(-1), /resumed at its cursor and decrypted "read you"/)
  for (const line of lines) saw(line)
}
