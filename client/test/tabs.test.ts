// @vitest-environment jsdom
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { createClient, type Client, type ClientOptions } from 'rooms-client'
import { FakeChannel, fakeBrowser, noBrowser, type FakeLocks } from './fake-browser.js'
import { fake, last, real, settle, sockets } from './fake-socket.js'

const clients: Client[] = []
let locks: FakeLocks
const jwt = (claims: object) => `h.${btoa(JSON.stringify(claims))}.s`
const tick = (ms: number) => vi.advanceTimersByTimeAsync(ms)
/** A tab of Alice's, unless it says otherwise. */
async function open(options: ClientOptions = {}) {
  const client = createClient('ws://host/ws', { getToken: () => jwt({ sub: 'alice', exp: Math.random() }), ...options })
  clients.push(client)
  await settle()
  await tick(600)
  return client
}
async function leader(options?: ClientOptions) {
  const client = await open(options)
  last().connects()
  await tick(10)
  return client
}
function watch(client: Client, room: string) {
  const seen = { events: [] as number[], gaps: 0 }
  client.subscribe(room, { onEvent: (event) => seen.events.push(event.offset), onGap: () => seen.gaps++ })
  return seen
}
const joinAll = (room: string, answer = {}) => last().asks(room).forEach(({ ref }) => last().says({ type: 'subscribed', room, ref, epoch: 'e1', offset: 0, ...answer }))
const show = (value: string) => {
  Object.defineProperty(document, 'visibilityState', { value, configurable: true })
  document.dispatchEvent(new Event('visibilitychange'))
}
/** What is set from now on runs as in a tab that has long been hidden. */
const slowTimers = (of: number) => {
  const { setInterval } = globalThis
  vi.stubGlobal('setInterval', (act: () => void, ms: number) => setInterval(act, ms === of ? 60_000 : ms))
  return () => vi.stubGlobal('setInterval', setInterval)
}

beforeEach(() => {
  fake()
  locks = fakeBrowser()
})
afterEach(async () => {
  show('visible')
  for (const client of clients.splice(0)) client.close()
  await tick(5000)
  noBrowser()
  real()
})

it('two tabs of a user have one socket, and both hear each event once', async () => {
  const [a, b] = [await leader(), await open()]
  const seen = [watch(a, 'r:1'), watch(b, 'r:1')]
  await tick(10)
  expect([sockets.length, a.state, b.state, last().asks('r:1').length]).toEqual([1, 'live', 'live', 2])
  joinAll('r:1')
  await tick(1)
  last().event('r:1', 1)
  await tick(1)
  expect(seen.map(({ events }) => events)).toEqual([[1], [1]])
})

it('what another tab has missed is not given to one that has had it', async () => {
  const [a, b] = [await leader(), await open()]
  const seen = watch(a, 'r:1')
  last().joins('r:1').event('r:1', 1).event('r:1', 2)
  const other = { events: [] as number[] }
  b.subscribe('r:1', { onEvent: (event) => other.events.push(event.offset) }, { epoch: 'e1', offset: 0 })
  await tick(10)
  expect(last().asks('r:1').at(-1).since).toEqual({ epoch: 'e1', offset: 0 })
  last().joins('r:1', { offset: 2, recovered: true }).event('r:1', 1).event('r:1', 2).event('r:1', 3)
  await tick(10)
  expect([seen.events, other.events]).toEqual([[1, 2, 3], [1, 2, 3]])
})

it('a room is left on the socket when the last tab leaves it', async () => {
  const [a, b] = [await leader(), await open()]
  const leave = [a.subscribe('r:1', {}), b.subscribe('r:1', {})]
  await tick(10)
  joinAll('r:1')
  leave[0]!()
  await tick(100)
  expect(last().sent.some(({ type }) => type === 'unsubscribe')).toBe(false)
  b.close()
  await tick(100)
  expect(last().sent.filter(({ type }) => type === 'unsubscribe').length).toBe(1)
})

it('another user, or a token that is no JWT, has a socket of its own', async () => {
  await leader()
  await open({ getToken: () => jwt({ sub: 'bob' }) })
  await open({ getToken: () => 'opaque' })
  await open({ share: false })
  expect(sockets.length).toBe(4)
})

it('the leader logs out: the next one resumes', async () => {
  const [a, b] = [await leader(), await open()]
  const seen = watch(b, 'r:1')
  await tick(10)
  joinAll('r:1')
  await tick(1)
  last().event('r:1', 1)
  await tick(1)
  a.close()
  await tick(10)
  expect([sockets.length, b.state]).toEqual([2, 'recovering'])
  last().connects().joins('r:1', { offset: 2, recovered: true }).event('r:1', 2)
  expect([b.state, seen.events, seen.gaps]).toEqual(['live', [1, 2], 0])
})

it('the leader’s reconnect takes the others along, without their tokens', async () => {
  let asked = 0
  await leader()
  const b = await open({ getToken: () => jwt({ sub: 'alice', jti: ++asked }) })
  const seen = watch(b, 'r:1')
  await tick(10)
  const old = last()
  joinAll('r:1')
  await tick(1)
  old.says({ type: 'reconnect', afterMs: 10 })
  await tick(20)
  last().connects()
  await tick(10)
  last().joins('r:1', { offset: 1, recovered: true }).event('r:1', 1)
  await tick(10)
  expect([sockets.length, asked, b.state, seen.events]).toEqual([2, 1, 'live', [1]])
})

it('where locks are refused every tab has its own socket', async () => {
  Object.defineProperty(navigator, 'locks', { value: { request: () => Promise.reject(new DOMException('', 'SecurityError')) }, configurable: true })
  await leader()
  await leader()
  expect(sockets.length).toBe(2)
})

it('close() while a leader hands over throws nothing', async () => {
  const a = await leader()
  watch(a, 'r:1')
  last().joins('r:1').says({ type: 'reconnect', afterMs: 10 })
  await tick(50)
  last().connects()
  a.close()
  await tick(5000)
  expect(sockets.map(({ closed }) => closed)).toEqual([1000, 1000])
})

it('another user at a handover: the end of the old socket is noticed', async () => {
  let sub = 'alice'
  const a = await leader({ getToken: () => jwt({ sub }) })
  sub = 'bob'
  last().says({ type: 'reconnect', afterMs: 10 })
  await tick(50)
  expect(sockets.length).toBe(2)
  sockets[0]!.drops(1012)
  expect(a.state).toBe('recovering')
})

it('a leader that waits for its token does not delay a visible tab for ever', async () => {
  let hangs = false
  await leader({ getToken: () => (hangs ? new Promise<string>(() => {}) : jwt({ sub: 'alice' })) })
  const b = await open()
  hangs = true
  last().drops()
  await tick(30_000)
  expect([sockets.length > 1, b.state]).toEqual([true, 'recovering'])
})

it('a follower of a leader without a socket is not live', async () => {
  const [, b, c] = [await leader(), await open(), await open()]
  expect([b.state, c.state]).toEqual(['live', 'live'])
  // It crashes.
  const [channel] = FakeChannel.all
  channel!.onmessage = null
  channel!.postMessage = () => {}
  sockets[0]!.onclose = null
  locks.free()
  await tick(3000)
  expect([b.state, c.state]).toEqual(['recovering', 'recovering'])
})

it('a good leader keeps its lock when a tab is shown after a long time', async () => {
  await leader()
  const { setInterval } = globalThis
  let overdue!: () => void
  vi.stubGlobal('setInterval', (act: () => void, ms: number) => setInterval(ms === 500 ? (overdue = act) : act, ms === 500 ? 60_000 : ms))
  await open()
  show('hidden')
  await tick(30_000)
  show('visible')
  overdue()
  await tick(100)
  expect([locks.steals, sockets.length]).toEqual([0, 1])
})

it('the socket of a leader long hidden is found dead by a visible tab', async () => {
  const fast = slowTimers(1000)
  await leader()
  fast()
  await open()
  last().alive = false
  await tick(45_000)
  expect(sockets.length).toBeGreaterThan(1)
})

it('a leader that answers nobody loses the lock within 2.5 s', async () => {
  await leader()
  await open()
  const [channel] = FakeChannel.all
  channel!.onmessage = null
  await tick(2600)
  expect([locks.steals, sockets.length]).toEqual([1, 2])
})
