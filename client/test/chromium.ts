// Chromium through its debugging socket alone: Playwright keeps each page visible, and only a hidden one can be frozen. Tabs are those
// of one window: the one in front is visible.
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import WebSocket from 'ws'
import { until } from './server.js'

export type Chromium = Awaited<ReturnType<typeof startChromium>>
export type RawTab = Awaited<ReturnType<Chromium['open']>>

export async function startChromium() {
  const profile = mkdtempSync(join(tmpdir(), 'rooms-chromium-'))
  const child = spawn(process.env.CHROMIUM ?? '/usr/bin/chromium', [
    '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--ignore-certificate-errors', '--no-first-run',
    '--remote-debugging-port=0', `--user-data-dir=${profile}`, 'about:blank',
  ], { stdio: ['ignore', 'ignore', 'pipe'] })
  const where = await new Promise<string>((resolve, reject) => {
    let said = ''
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk
      const found = /DevTools listening on (\S+)/.exec(said)
      if (found) resolve(found[1]!)
    })
    child.once('exit', () => reject(new Error(`chromium has ended: ${said}`)))
  })
  const socket = new WebSocket(where, { perMessageDeflate: false })
  await new Promise((resolve) => socket.once('open', resolve))
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  type Any = any
  const waiting = new Map<number, { resolve(value: Any): void; reject(error: Error): void }>()
  let ids = 0
  socket.on('message', (text) => {
    const { id, result, error } = JSON.parse(text.toString())
    const one = waiting.get(id)
    waiting.delete(id)
    if (error) one?.reject(new Error(error.message))
    else one?.resolve(result)
  })
  const send = (method: string, params: object = {}, sessionId?: string): Promise<Any> =>
    new Promise((resolve, reject) => {
      waiting.set(++ids, { resolve, reject })
      socket.send(JSON.stringify({ id: ids, method, params, sessionId }))
    })

  return {
    /** A tab in front, with this script run before the page's own. */
    async open(url: string, script: string) {
      const { targetId } = await send('Target.createTarget', { url: 'about:blank' })
      const { sessionId } = await send('Target.attachToTarget', { targetId, flatten: true })
      const tell = (method: string, params?: object) => send(method, params, sessionId)
      await tell('Page.enable')
      await tell('Page.addScriptToEvaluateOnNewDocument', { source: script })
      await tell('Page.navigate', { url })
      const evaluate = async (expression: string) => {
        const { result, exceptionDetails } = await tell('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true })
        if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text)
        return result.value
      }
      return {
        tell,
        evaluate,
        text: (): Promise<string> => evaluate('document.body?.innerText ?? ""'),
        toFront: () => send('Target.activateTarget', { targetId }),
      }
    },
    async stop() {
      const ended = new Promise((resolve) => child.once('exit', resolve))
      child.kill()
      await ended
      // Its children write for a moment longer, and a retry of rmSync's own does not look what is new.
      await until('the profile to be removed', () => {
        try {
          rmSync(profile, { recursive: true, force: true })
          return true
        } catch {
          return false
        }
      })
    },
  }
}
