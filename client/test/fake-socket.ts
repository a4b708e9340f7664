// A WebSocket whose server is the test: every socket that the client opens is in `sockets`, with what it sent.
import { vi } from 'vitest'

export const sockets: FakeSocket[] = []
export const last = (): FakeSocket => sockets[sockets.length - 1]!

// eslint-disable-next-line @typescript-eslint/no-explicit-any
type Message = any

export class FakeSocket {
  onopen: (() => void) | null = null
  onmessage: ((event: { data: string }) => void) | null = null
  onclose: ((event: { code: number; reason: string }) => void) | null = null
  sent: Message[] = []
  closed: number | undefined
  /** Answers pings. */
  alive = true

  constructor(
    readonly url: string,
    readonly protocols: string[] = [],
  ) {
    sockets.push(this)
  }

  send(text: string) {
    if (this.closed !== undefined) throw new Error('sent after close()')
    const message = JSON.parse(text)
    this.sent.push(message)
    if (message.type === 'ping' && this.alive) this.says({ type: 'pong', timestamp: Date.now() })
  }
  close(code = 1000) {
    if (code !== 1000 && !(code >= 3000 && code <= 4999)) throw new Error('InvalidAccessError')
    this.closed ??= code
  }

  // --- the server's side

  get token() {
    return this.protocols.find((protocol) => protocol.startsWith('rooms.bearer.'))?.slice(13)
  }
  says(message: Message) {
    this.onmessage?.({ data: JSON.stringify(message) })
  }
  connects(more: Message = {}) {
    this.says({ type: 'connected', userId: 'u1', connectionId: 'c', expiresAt: null, heartbeat: 30000, serverTime: Date.now(), ...more })
    return this
  }
  drops(code = 1006, reason = '') {
    this.onclose?.({ code, reason })
  }
  asks(room: string): Message[] {
    return this.sent.filter((message) => message.type === 'subscribe' && message.room === room)
  }
  /** Answers the newest question for a room. */
  joins(room: string, answer: Message = {}) {
    const { ref } = this.asks(room).at(-1)!
    this.says({ type: 'subscribed', room, ref, epoch: 'e1', offset: 0, timestamp: Date.now(), ...answer })
    return this
  }
  event(room: string, offset: number, more: Message = {}) {
    this.says({ type: 'x', room, offset, timestamp: Date.now(), ...more })
    return this
  }
}

/** Fake timers, fake sockets, and no jitter: each wait is as long as it may be. */
export function fake() {
  sockets.length = 0
  vi.useFakeTimers()
  vi.spyOn(Math, 'random').mockReturnValue(0.999_999)
  vi.stubGlobal('WebSocket', FakeSocket)
}
export function real() {
  vi.useRealTimers()
  vi.restoreAllMocks()
  vi.unstubAllGlobals()
}
export const settle = () => vi.advanceTimersByTimeAsync(0)
