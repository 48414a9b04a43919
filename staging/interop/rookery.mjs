// A Rookery of its own: development, a private Postgres in a folder that goes with it, a free port that it keeps over
// restarts.
import { execFile, spawn } from 'node:child_process'
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { freePort } from './network.mjs'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const READY_MS = 60_000
const STOP_MS = 30_000

/** The binary to run: ROOKERY_BIN, or what `cargo build` made. */
export function binary() {
  return process.env.ROOKERY_BIN ?? path.resolve(ROOT, process.env.CARGO_TARGET_DIR ?? 'target', 'debug', 'rookery')
}

export class Rookery {
  #folder
  #settings
  #child
  #said = ''

  /** Not started yet. `settings` are environment variables beside those that every run here has. */
  constructor(settings) {
    this.#settings = settings
  }

  get socketUrl() {
    return this.url.replace('http:', 'ws:')
  }

  /** Also again, with the same folder and port. */
  async start() {
    this.#folder ??= await openFolder()
    this.port ??= await freePort()
    this.url = `http://localhost:${this.port}`
    this.did = `did:web:localhost%3A${this.port}`
    /** What `atproto-proxy` names. */
    this.service = `${this.did}#atproto_mls`
    this.#child = spawn(binary(), ['serve'], { env: this.#environment(), stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.on('data', (text) => (this.#said = (this.#said + text).slice(-20_000)))
    }
    const until = Date.now() + READY_MS
    while (Date.now() < until) {
      if (this.#child.exitCode !== null) throw new Error(`the server ended by itself:\n${this.#said}`)
      const ready = await fetch(`${this.url}/health/ready`).catch(() => undefined)
      if (ready?.ok) return
      await new Promise((done) => setTimeout(done, 50))
    }
    throw new Error(`the server was not ready in ${READY_MS / 1000} s:\n${this.#said}`)
  }

  /** Its settings: none of this program's own, nor of who called it. */
  #environment() {
    const others = Object.entries(process.env).filter(([name]) => !/^(ROOKERY_|DATABASE_URL$)/.test(name))
    return {
      ...Object.fromEntries(others),
      ROOKERY_ENV: 'development',
      INVITATIONS: 'everyone',
      SERVER_HOST: '127.0.0.1',
      SERVER_PORT: String(this.port),
      METRICS_PORT: '0',
      DATA_DIR: path.join(this.#folder, 'data'),
      RUST_LOG: 'warn',
      LOG_FORMAT: 'text',
      ...this.#settings,
    }
  }

  /** Another command beside the running server: what it printed. */
  async command(...words) {
    const { stdout } = await promisify(execFile)(binary(), words, { env: this.#environment() })
    return stdout
  }

  /** The last of what it printed. */
  said() {
    return this.#said
  }

  /** As an operator would. Its exit code. */
  stop() {
    return this.#end('SIGTERM')
  }

  /** With -9, its Postgres too: what was not acknowledged may be gone. */
  async kill() {
    const postmaster = await readFile(path.join(this.#folder, 'data', 'postgres', 'postmaster.pid'), 'utf8')
    await this.#end('SIGKILL')
    process.kill(Number(postmaster.split('\n')[0]), 'SIGKILL')
  }

  async #end(signal) {
    const child = this.#child
    if (!child || child.exitCode !== null || child.signalCode !== null) return child?.exitCode
    const ended = new Promise((done) => child.once('exit', done))
    child.kill(signal)
    const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
    const code = await ended
    clearTimeout(late)
    return code
  }

  /** Stops it and forgets everything. */
  async remove() {
    await this.stop()
    if (this.#folder) await rm(this.#folder, { recursive: true, force: true })
  }
}

/** Started as root, a server runs its Postgres as another user, who must get there. */
async function openFolder() {
  const folder = await mkdtemp(path.join(tmpdir(), 'rookery-interop.'))
  await chmod(folder, 0o755)
  return folder
}
