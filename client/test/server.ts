// The nginx of serve.py, as the tests see it.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { resolve } from 'node:path'

export type Server = Awaited<ReturnType<typeof serve>>

export async function serve(environment: Record<string, string> = {}) {
  const child = spawn('/usr/bin/python3', [resolve('test/serve.py')], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, ...environment },
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  // One question at a time.
  let turn: Promise<unknown> = Promise.resolve()
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  const ask = (name: string, argument?: unknown): Promise<any> => {
    const answered = turn.then(async () => {
      child.stdin.write(`${JSON.stringify([name, argument])}\n`)
      const { value, done } = await lines.next()
      if (done) throw new Error(`${name}: the server has ended`)
      const answer = JSON.parse(value)
      if (answer.error) throw new Error(answer.error)
      return answer.value
    })
    turn = answered.catch(() => {})
    return answered
  }
  const { port, secret } = await ask('where')
  return {
    port: port as number,
    secret: secret as string,
    url: `ws://127.0.0.1:${port}/ws`,
    ask,
    publish: (room: string, type: string, data: object = {}) => ask('publish', { room, type, data }),
    mint: (claims: object = { sub: 'u1' }): Promise<string> => ask('mint', claims),
    async stop() {
      const ended = once(child, 'exit')
      child.stdin.end()
      const [code] = await ended
      if (code) throw new Error(`nginx left problems behind: ${code}`)
    },
  }
}

export async function until<T>(what: string, test: () => T | Promise<T>, ms = 15_000): Promise<T> {
  const end = Date.now() + ms
  for (;;) {
    const value = await test()
    if (value) return value
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`)
    await new Promise((done) => setTimeout(done, 10))
  }
}
