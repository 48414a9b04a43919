// A typed client that the official tool generates from a folder of lexicons, now.
import { execFile } from 'node:child_process'
import { mkdtemp, realpath, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

export const run = promisify(execFile)
const HERE = fileURLToPath(new URL('.', import.meta.url))
export const LEXICONS = path.resolve(HERE, '../../lexicons')

/** A program of one of the packages. */
export const program = (name) => path.join(HERE, 'node_modules', '.bin', name)

/** A folder in which generated code finds the packages; it goes when this process ends well. */
export async function scratch() {
  const folder = await mkdtemp(path.join(tmpdir(), 'rookery-generated.'))
  await symlink(await realpath(path.join(HERE, 'node_modules')), path.join(folder, 'node_modules'))
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) }
}

/** `lex build`; answers the namespaces that it made, such as `blue`. Node runs the TypeScript as it is. */
export async function generate(folder, lexicons = LEXICONS) {
  const out = path.join(folder, 'lexicons')
  const { stdout } = await run(program('ts-lex'), [
    ...['build', '--lexicons', lexicons, '--out', out],
    ...['--import-ext', '.ts', '--index-file', '--no-pretty'],
  ])
  return { ...(await import(path.join(out, 'index.ts'))), said: stdout }
}
