/**
 * The example against a server of its own: development, a private Postgres in a folder that goes with it, a free port.
 * `ROOKERY_BIN` names another binary than `target/debug/rookery`.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../../..', import.meta.url))
const READY_MS = 60_000

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  return typeof address === 'object' ? address!.port : 0
}

async function ready(url: string, server: ChildProcess): Promise<void> {
  for (const last = Date.now() + READY_MS; Date.now() < last;) {
    if (server.exitCode !== null) throw new Error(`the server ended by itself, with ${server.exitCode}`)
    const answer = await fetch(`${url}/health/ready`).catch(() => undefined)
    if (answer?.ok) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`the server was not ready in ${READY_MS / 1000} s`)
}

const folder = await mkdtemp(path.join(tmpdir(), 'rookery-example.'))
// Started as root, the server runs its Postgres as another user, who must get there.
await chmod(folder, 0o755)
const port = await freePort()
const url = `http://localhost:${port}`
const target = process.env['CARGO_TARGET_DIR'] ?? 'target'
const binary = process.env['ROOKERY_BIN'] ?? path.resolve(ROOT, target, 'debug', 'rookery')
const foreign = Object.entries(process.env).filter(([name]) => !/^(ROOKERY_|DATABASE_URL$)/.test(name))
const server = spawn(binary, ['serve'], {
  env: {
    ...Object.fromEntries(foreign),
    ROOKERY_ENV: 'development',
    SERVER_HOST: '127.0.0.1',
    SERVER_PORT: String(port),
    METRICS_PORT: '0',
    DATA_DIR: path.join(folder, 'data'),
    RUST_LOG: 'warn',
  },
  stdio: ['ignore', 'inherit', 'inherit'],
})
const ended = once(server, 'exit')
try {
  await ready(url, server)
  const main = fileURLToPath(new URL('main.ts', import.meta.url))
  const example = spawn(process.execPath, [main], { env: { ...process.env, ROOKERY_URL: url }, stdio: 'inherit' })
  const [code] = await once(example, 'exit')
  process.exitCode = code ?? 1
} catch (error) {
  console.error(error)
  process.exitCode = 1
} finally {
  server.kill('SIGTERM')
  await ended
  await rm(folder, { recursive: true, force: true })
}
