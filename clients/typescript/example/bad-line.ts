/** A line to the server that can be cut: a TCP proxy on loopback. */
import { type AddressInfo, type Socket, connect, createServer } from 'node:net'

export interface BadLine {
  url: string
  /** Cuts every connection that is open now. */
  cut: () => number
  /** The next answer to a request that holds `needle` is lost: the server acts, and the connection is cut. */
  loseAnswerTo: (needle: string) => void
  /** How many answers were lost. */
  lost: () => number
  close: () => void
}

export async function badLine(target: URL): Promise<BadLine> {
  const open = new Set<Socket>()
  let needle: string | undefined
  let lost = 0
  const proxy = createServer((client) => {
    const server = connect(Number(target.port || 80), target.hostname)
    let doomed = false
    for (const socket of [client, server]) {
      open.add(socket)
      socket.on('error', () => socket.destroy())
      socket.on('close', () => {
        open.delete(socket)
        client.destroy()
        server.destroy()
      })
    }
    client.on('data', (bytes) => {
      if (needle !== undefined && bytes.includes(needle)) {
        needle = undefined
        doomed = true
      }
      server.write(bytes)
    })
    server.on('data', (bytes) => {
      if (doomed) {
        lost++
        client.destroy()
      } else client.write(bytes)
    })
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    cut: () => {
      const cut = open.size / 2
      for (const socket of open) socket.destroy()
      return cut
    },
    loseAnswerTo: (text) => void (needle = text),
    lost: () => lost,
    close: () => {
      proxy.close()
      for (const socket of open) socket.destroy()
    },
  }
}
