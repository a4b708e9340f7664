// What tabs of one browser have in common, in one process: BroadcastChannel and Web Locks. Every client is a tab.
import { vi } from 'vitest'

export class FakeChannel {
  static all = new Set<FakeChannel>()
  onmessage: ((event: { data: unknown }) => void) | null = null
  closed = false
  constructor(readonly name: string) {
    FakeChannel.all.add(this)
  }
  postMessage(data: unknown) {
    if (this.closed) throw new Error('InvalidStateError')
    const copy = structuredClone(data)
    for (const other of FakeChannel.all) if (other !== this && other.name === this.name) setTimeout(() => other.closed || other.onmessage?.({ data: copy }))
  }
  close() {
    this.closed = true
    FakeChannel.all.delete(this)
  }
}

interface Options {
  ifAvailable?: boolean
  steal?: boolean
  signal?: AbortSignal
}
export class FakeLocks {
  steals = 0
  held = new Map<string, (error: Error) => void>()
  queue: { name: string; grant: () => void }[] = []

  request(name: string, options: Options, callback: (lock: object | null) => unknown) {
    return new Promise((resolve, reject) => {
      const grant = () => {
        this.held.set(name, reject)
        Promise.resolve(callback({})).then((value) => {
          if (this.held.get(name) === reject) this.free(name)
          resolve(value)
        }, reject)
      }
      setTimeout(() => {
        if (options.signal?.aborted) return reject(new Error('AbortError'))
        if (options.steal) {
          this.steals++
          this.held.get(name)?.(new Error('AbortError'))
          return grant()
        }
        if (!this.held.has(name)) return grant()
        if (options.ifAvailable) return resolve(callback(null))
        const entry = { name, grant }
        this.queue.push(entry)
        options.signal?.addEventListener('abort', () => {
          this.queue = this.queue.filter((one) => one !== entry)
          reject(new Error('AbortError'))
        })
      })
    })
  }
  /** As when its holder crashes. */
  free(name = [...this.held.keys()][0]!) {
    this.held.delete(name)
    const next = this.queue.findIndex((entry) => entry.name === name)
    if (next >= 0) this.queue.splice(next, 1)[0]!.grant()
  }
}

/** Call after fake(). */
export function fakeBrowser(): FakeLocks {
  const locks = new FakeLocks()
  let n = 0
  // Tabs need names of their own.
  vi.spyOn(Math, 'random').mockImplementation(() => 0.9 + (n = (n + 1) % 1000) / 12345)
  FakeChannel.all.clear()
  vi.stubGlobal('BroadcastChannel', FakeChannel)
  Object.defineProperty(navigator, 'locks', { value: locks, configurable: true })
  return locks
}
export const noBrowser = () => Reflect.deleteProperty(navigator, 'locks')
