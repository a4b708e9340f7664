// @vitest-environment jsdom
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createClient, type Client, type ClientOptions, type Gap, type RoomEvent } from 'rooms-client'
import { fake, last, real, settle, sockets } from './fake-socket.js'

const URL_ = 'ws://host/ws'
const clients: Client[] = []
async function open(options: ClientOptions = { getToken: () => 't' }) {
  const client = createClient(URL_, options)
  clients.push(client)
  await settle()
  return client
}
/** Collects what comes of a room. */
function watch(client: Client, room: string, since?: { epoch: string; offset: number }) {
  const seen = { events: [] as number[], gaps: [] as Gap[], errors: [] as string[], joins: 0, leave: () => {} }
  seen.leave = client.subscribe(
    room,
    {
      onEvent: (event: RoomEvent) => seen.events.push(event.offset),
      onGap: (gap) => seen.gaps.push(gap),
      onError: (error) => seen.errors.push(error.code),
      onSubscribed: () => seen.joins++,
    },
    since,
  )
  return seen
}
const show = (value: string) => {
  Object.defineProperty(document, 'visibilityState', { value, configurable: true })
  document.dispatchEvent(new Event('visibilitychange'))
}
const network = (on: boolean) => {
  vi.spyOn(navigator, 'onLine', 'get').mockReturnValue(on)
  dispatchEvent(new Event(on ? 'online' : 'offline'))
}

beforeEach(fake)
afterEach(() => {
  for (const client of clients.splice(0)) client.close()
  show('visible')
  real()
})

describe('sockets', () => {
  it('offers the token as a subprotocol beside rooms.v1, or as ?token=, or none', async () => {
    await open()
    expect([last().url, last().protocols]).toEqual([URL_, ['rooms.v1', 'rooms.bearer.t']])
    await open({ getToken: () => 'a+b', tokenIn: 'query' })
    expect([last().url, last().protocols]).toEqual([`${URL_}?token=a%2Bb`, ['rooms.v1']])
    await open({})
    expect([last().url, last().protocols]).toEqual([URL_, ['rooms.v1']])
  })

  it('takes a path on the page’s host', async () => {
    const client = createClient('/ws')
    clients.push(client)
    await settle()
    expect(last().url).toBe('ws://localhost:3000/ws')
  })

  it('goes connecting, live, recovering, live, closed, and tells each once', async () => {
    const client = await open()
    const states = [client.state as string]
    client.onState((state) => states.push(state))
    last().connects()
    last().drops()
    await vi.advanceTimersByTimeAsync(300)
    last().connects()
    client.close()
    expect(states).toEqual(['connecting', 'live', 'recovering', 'live', 'closed'])
    expect(last().closed).toBe(1000)
    await vi.advanceTimersByTimeAsync(60_000)
    expect(sockets.length).toBe(2)
  })

  it('backs off by full jitter from 0.3 to 20 s, without an end, and begins anew after a good socket', async () => {
    await open()
    const waits = []
    for (let n = 0; n < 12; n++) {
      const before = Date.now()
      const count = sockets.length
      last().drops()
      while (sockets.length === count) await vi.advanceTimersByTimeAsync(10)
      waits.push(Math.round((Date.now() - before) / 100) / 10)
    }
    expect(waits).toEqual([0.3, 0.6, 1.2, 2.4, 4.8, 9.6, 19.2, 20, 20, 20, 20, 20])
    last().connects()
    await vi.advanceTimersByTimeAsync(6000)
    last().drops()
    await vi.advanceTimersByTimeAsync(310)
    expect(sockets.length).toBe(14)
    vi.mocked(Math.random).mockReturnValue(0)
    last().drops()
    await vi.advanceTimersByTimeAsync(1)
    expect(sockets.length).toBe(15)
  })

  it('gives up a socket that says nothing for 10 s', async () => {
    await open()
    await vi.advanceTimersByTimeAsync(12_000)
    expect(sockets[0]!.closed).toBe(1000)
    expect(sockets.length).toBe(2)
  })

  it('backs off after 41xx from 1.2 s, and comes back within 0.3 s after 42xx', async () => {
    await open()
    last().connects()
    last().drops(4101)
    await vi.advanceTimersByTimeAsync(1100)
    expect(sockets.length).toBe(1)
    await vi.advanceTimersByTimeAsync(200)
    expect(sockets.length).toBe(2)
    last().connects()
    last().drops(4201)
    await vi.advanceTimersByTimeAsync(310)
    expect(sockets.length).toBe(3)
  })

  it('ignores what is no JSON', async () => {
    const client = await open()
    last().onmessage?.({ data: 'no' })
    last().connects()
    expect(client.state).toBe('live')
  })
})

describe('tokens', () => {
  it('are awaited before every socket', async () => {
    let n = 0
    await open({ getToken: async () => `t${++n}` })
    expect(last().token).toBe('t1')
    last().connects()
    last().drops()
    await vi.advanceTimersByTimeAsync(310)
    expect(last().token).toBe('t2')
  })

  it('a rejection is denied: no socket for a minute, until reconnect() after a login', async () => {
    let login = false
    const client = await open({ getToken: async () => (login ? 't' : Promise.reject(new Error('logged out'))) })
    expect([client.state, client.error?.message]).toEqual(['denied', 'logged out'])
    show('hidden')
    show('visible')
    network(false)
    network(true)
    await vi.advanceTimersByTimeAsync(60_000)
    expect([sockets.length, client.state]).toEqual([0, 'denied'])
    login = true
    client.reconnect()
    await settle()
    last().connects()
    expect([client.state, client.error]).toEqual(['live', undefined])
  })

  it('a rejection that may pass is tried again: fetch without network, retryable', async () => {
    const failures = [new TypeError('Failed to fetch'), Object.assign(new Error('502'), { retryable: true })]
    const client = await open({ getToken: async () => (failures.length ? Promise.reject(failures.shift()) : 't') })
    await vi.advanceTimersByTimeAsync(1000)
    expect([sockets.length, client.state]).toEqual([1, 'connecting'])
  })

  it('4002 asks once for another one; refused again: denied, and two sockets in all', async () => {
    let n = 0
    const client = await open({ getToken: () => `t${++n}` })
    last().drops(4002, 'expired')
    await settle()
    expect(sockets.length).toBe(2)
    last().drops(4002, 'expired')
    await vi.advanceTimersByTimeAsync(60_000)
    expect([sockets.length, client.state, client.error]).toEqual([2, 'denied', { code: 'bad_token', message: 'expired', retryable: false }])
  })

  it('4002 and the same token again: denied, without another socket', async () => {
    const client = await open()
    last().drops(4002)
    await vi.advanceTimersByTimeAsync(60_000)
    expect([sockets.length, client.state]).toEqual([1, 'denied'])
  })

  it('4002 and then a good one: live', async () => {
    let n = 0
    const client = await open({ getToken: () => `t${++n}` })
    last().drops(4002)
    await settle()
    last().connects()
    expect(client.state).toBe('live')
  })

  it('4003 is denied at once', async () => {
    const client = await open()
    last().drops(4003)
    await vi.advanceTimersByTimeAsync(60_000)
    expect([sockets.length, client.state]).toEqual([1, 'denied'])
  })

  it('before the end a new one goes in-band; a failing getToken is asked again while the socket lives', async () => {
    let fail = true
    let n = 0
    await open({ getToken: async () => (n++ && fail ? Promise.reject(new Error('no')) : `t${n}`) })
    last().connects()
    last().says({ type: 'token:expiring', expiresAt: Date.now() + 60_000 })
    await settle()
    expect(last().sent.some((message) => message.type === 'auth')).toBe(false)
    fail = false
    await vi.advanceTimersByTimeAsync(3100)
    expect(last().sent.find((message) => message.type === 'auth')).toEqual({ type: 'auth', token: 't3' })
    expect(sockets.length).toBe(1)
  })

  it('of another user, at the renewal, opens another socket', async () => {
    const jwt = (sub: string) => `h.${btoa(JSON.stringify({ sub, exp: Math.random() }))}.s`
    let user = 'a'
    await open({ getToken: () => jwt(user) })
    last().connects()
    user = 'b'
    last().says({ type: 'token:expiring' })
    await settle()
    await settle()
    expect(sockets.map((socket) => socket.closed)).toEqual([1000, undefined])
  })

  it('one that no WebSocket takes is denied', async () => {
    vi.stubGlobal('WebSocket', class {
      constructor() {
        throw new DOMException('bad subprotocol', 'SyntaxError')
      }
    })
    const client = await open({ getToken: () => 'abc\n' })
    expect([client.state, client.error?.message]).toEqual(['denied', 'bad subprotocol'])
  })

  it('one that comes too late, after close() or reconnect(), opens nothing', async () => {
    const waiting: ((token: string) => void)[] = []
    const client = await open({ getToken: () => new Promise((resolve) => waiting.push(resolve)) })
    client.reconnect()
    await settle()
    waiting[0]!('old')
    await settle()
    expect(sockets.length).toBe(0)
    waiting[1]!('new')
    await settle()
    expect(sockets.map((socket) => socket.token)).toEqual(['new'])
    client.reconnect()
    await settle()
    client.close()
    waiting[2]!('late')
    await settle()
    expect(sockets.length).toBe(1)
  })
})

describe('rooms', () => {
  it('are joined once for all handlers, and left with the last of them', async () => {
    const client = await open()
    last().connects()
    const [a, b] = [watch(client, 'r:1'), watch(client, 'r:1')]
    last().joins('r:1', { offset: 4 }).event('r:1', 5)
    expect([last().asks('r:1').length, a.events, b.events, a.joins, b.joins]).toEqual([1, [5], [5], 1, 1])
    const late = watch(client, 'r:1')
    await settle()
    expect(late.joins).toBe(1)
    a.leave()
    late.leave()
    await vi.advanceTimersByTimeAsync(100)
    expect(last().sent.some((message) => message.type === 'unsubscribe')).toBe(false)
    last().event('r:1', 6)
    b.leave()
    b.leave()
    await vi.advanceTimersByTimeAsync(100)
    expect(last().sent.filter((message) => message.type === 'unsubscribe')).toEqual([{ type: 'unsubscribe', room: 'r:1' }])
    expect([a.events, b.events]).toEqual([[5], [5, 6]])
  })

  it('who leaves and comes back in one turn stays in the room', async () => {
    const client = await open()
    last().connects()
    watch(client, 'r:1').leave()
    const again = watch(client, 'r:1')
    await vi.advanceTimersByTimeAsync(100)
    last().joins('r:1').event('r:1', 1)
    expect([last().asks('r:1').length, again.events]).toEqual([1, [1]])
  })

  it('are asked for once the socket is live, and again on the next one, from their positions', async () => {
    const client = await open()
    const room = watch(client, 'r:1')
    expect(last().sent).toEqual([])
    last().connects()
    expect(last().asks('r:1')[0].since).toBeUndefined()
    last().joins('r:1', { offset: 7 }).event('r:1', 8)
    last().drops()
    await vi.advanceTimersByTimeAsync(310)
    last().connects()
    expect(last().asks('r:1')[0].since).toEqual({ epoch: 'e1', offset: 8 })
    last().joins('r:1', { offset: 10, recovered: true }).event('r:1', 9).event('r:1', 10).event('r:1', 11)
    expect([room.events, room.gaps, room.joins]).toEqual([[8, 9, 10, 11], [], 2])
  })

  it('take a position from before', async () => {
    const client = await open()
    last().connects()
    watch(client, 'r:1', { epoch: 'e1', offset: 3 })
    expect(last().asks('r:1')[0].since).toEqual({ epoch: 'e1', offset: 3 })
  })

  it('a repeat is dropped; after a hole nothing is given until the room was asked for again', async () => {
    const client = await open()
    const room = watch(client, 'r:1')
    last().connects().joins('r:1').event('r:1', 1).event('r:1', 1).event('r:1', 3).event('r:1', 4)
    expect(room.events).toEqual([1])
    expect(last().asks('r:1').at(-1).since).toEqual({ epoch: 'e1', offset: 1 })
    last().joins('r:1', { offset: 4, recovered: true }).event('r:1', 2).event('r:1', 3).event('r:1', 4)
    expect([room.events, room.gaps]).toEqual([[1, 2, 3, 4], []])
  })

  it('gap and recovered:false are one onGap each, before anything newer, and the position goes on from there', async () => {
    const client = await open()
    const room = watch(client, 'r:1')
    last().connects().joins('r:1').event('r:1', 1)
    last().says({ type: 'gap', room: 'r:1', epoch: 'e1', offset: 9, reason: 'trimmed' })
    last().event('r:1', 9).event('r:1', 10)
    expect([room.events, room.gaps]).toEqual([[1, 10], [{ room: 'r:1', epoch: 'e1', offset: 9, reason: 'trimmed' }]])
    last().drops()
    await vi.advanceTimersByTimeAsync(310)
    last().connects().joins('r:1', { epoch: 'e2', offset: 2, recovered: false }).event('r:1', 3)
    expect(room.events).toEqual([1, 10, 3])
    expect(room.gaps[1]).toEqual({ room: 'r:1', epoch: 'e2', offset: 2, reason: 'position' })
    expect(room.gaps.length).toBe(2)
  })

  it('a position ahead of the room is a gap', async () => {
    const client = await open()
    const room = watch(client, 'r:1', { epoch: 'e1', offset: 50 })
    last().connects().joins('r:1', { offset: 40, recovered: false }).event('r:1', 41)
    expect([room.gaps.length, room.events]).toEqual([1, [41]])
  })

  it('forbidden is told, also to who comes later, and asked again after auth:ok only', async () => {
    const client = await open()
    const room = watch(client, 'r:1')
    last().connects()
    const refuse = () => last().says({ type: 'error', code: 'forbidden', room: 'r:1', ref: last().asks('r:1').at(-1).ref, message: 'no', retryable: false })
    refuse()
    const late = watch(client, 'r:1')
    await vi.advanceTimersByTimeAsync(60_000)
    expect([room.errors, late.errors, last().asks('r:1').length]).toEqual([['forbidden'], ['forbidden'], 1])
    last().says({ type: 'auth:ok' })
    expect(last().asks('r:1').length).toBe(2)
    last().joins('r:1').event('r:1', 1)
    expect(room.events).toEqual([1])
  })

  it('unavailable is told and asked again by itself', async () => {
    const client = await open()
    const room = watch(client, 'r:1')
    last().connects()
    last().says({ type: 'error', code: 'unavailable', room: 'r:1', ref: last().asks('r:1')[0].ref, message: '', retryable: true })
    await vi.advanceTimersByTimeAsync(4000)
    expect([room.errors, last().asks('r:1').length]).toEqual([['unavailable'], 2])
  })

  it('thrown out without a question: unavailable resumes, forbidden does not', async () => {
    const client = await open()
    watch(client, 'r:1')
    watch(client, 'r:2')
    last().connects().joins('r:1', { offset: 3 }).joins('r:2')
    last().says({ type: 'error', code: 'unavailable', room: 'r:1', message: '', retryable: true })
    last().says({ type: 'error', code: 'forbidden', room: 'r:2', message: '', retryable: false })
    await vi.advanceTimersByTimeAsync(4000)
    expect(last().asks('r:1').at(-1).since).toEqual({ epoch: 'e1', offset: 3 })
    expect([last().asks('r:1').length, last().asks('r:2').length]).toEqual([2, 1])
  })

  it('of many, no more are asked for at once than rooms_rate allows, and a rate error only delays', async () => {
    const client = await open()
    for (let n = 0; n < 100; n++) watch(client, `r:${n}`)
    last().connects()
    expect(last().sent.length).toBeLessThanOrEqual(41)
    await vi.advanceTimersByTimeAsync(9_000)
    expect(last().sent.length).toBeLessThanOrEqual(90)
    last().says({ type: 'error', code: 'rate', message: '', retryable: true })
    for (let n = 0; n < 60; n++) {
      await vi.advanceTimersByTimeAsync(1000)
      for (let r = 0; r < 100; r++) if (last().asks(`r:${r}`).length) last().joins(`r:${r}`)
    }
    for (let n = 0; n < 100; n++) expect(last().asks(`r:${n}`).length).toBeGreaterThan(0)
  })

  it('events of the server’s own types are events', async () => {
    const client = await open()
    const room = watch(client, 'r:1')
    last().connects().joins('r:1')
    for (const [n, type] of ['error', 'connected', 'reconnect', 'token:expiring', 'auth:ok'].entries()) last().event('r:1', n + 1, { type, message: 'mine', afterMs: 0 })
    await vi.advanceTimersByTimeAsync(4000)
    expect([room.events, room.errors, client.state, sockets.length, last().closed]).toEqual([[1, 2, 3, 4, 5], [], 'live', 1, undefined])
    expect(client.serverNow()).toBeGreaterThan(0)
  })

  it('as many as rooms_max_rooms allows are all joined, however slowly they are answered', async () => {
    const client = await open()
    const rooms = Array.from({ length: 128 }, (_, n) => watch(client, `r:${n}`))
    const socket = last().connects()
    for (let done = 0, second = 0; second < 40; second++) {
      await vi.advanceTimersByTimeAsync(1000)
      for (const { type, room, ref } of socket.sent.slice(done)) {
        done++
        if (type === 'subscribe') socket.says({ type: 'subscribed', room, ref, epoch: 'e1', offset: 0 })
      }
    }
    expect(rooms.filter(({ joins }) => !joins).length).toBe(0)
  })

  it('a handler that throws harms no other', async () => {
    const client = await open()
    client.subscribe('r:1', {
      onEvent() {
        throw new Error('mine')
      },
    })
    const room = watch(client, 'r:1')
    last().connects().joins('r:1').event('r:1', 1)
    expect(room.events).toEqual([1])
    await expect(vi.advanceTimersByTimeAsync(1)).rejects.toThrow('mine')
  })
})

describe('a server that leaves', () => {
  it('the new socket is opened after afterMs, resumes, and only then the old one is dropped', async () => {
    const client = await open()
    const states: string[] = []
    const room = watch(client, 'r:1')
    const old = last().connects().joins('r:1').event('r:1', 1)
    client.onState((state) => states.push(state))
    old.says({ type: 'reconnect', afterMs: 700 })
    await vi.advanceTimersByTimeAsync(690)
    expect(sockets.length).toBe(1)
    await vi.advanceTimersByTimeAsync(20)
    expect(sockets.length).toBe(2)
    old.event('r:1', 2)
    last().connects()
    expect(last().asks('r:1')[0].since).toEqual({ epoch: 'e1', offset: 2 })
    old.event('r:1', 3)
    expect(old.closed).toBeUndefined()
    last().joins('r:1', { offset: 3, recovered: true }).event('r:1', 3).event('r:1', 4)
    await vi.advanceTimersByTimeAsync(50)
    expect([room.events, room.gaps, states, old.closed]).toEqual([[1, 2, 3, 4], [], [], 1000])
  })

  it('a room without history loses nothing, and no gap is told, where the old socket brought it all', async () => {
    const client = await open()
    const room = watch(client, 'r:1')
    const old = last().connects().joins('r:1').event('r:1', 1)
    old.says({ type: 'reconnect', afterMs: 0 })
    await vi.advanceTimersByTimeAsync(1)
    last().connects()
    old.event('r:1', 2)
    last().joins('r:1', { offset: 2, recovered: false }).event('r:1', 3)
    expect([room.events, room.gaps]).toEqual([[1, 2, 3], []])
  })

  it('1012 before the new socket is there: it comes back as after any close', async () => {
    const client = await open()
    last().connects()
    last().says({ type: 'reconnect', afterMs: 2000 })
    last().drops(1012)
    expect(client.state).toBe('recovering')
    await vi.advanceTimersByTimeAsync(310)
    last().connects()
    await vi.advanceTimersByTimeAsync(5000)
    expect([sockets.length, client.state]).toEqual([2, 'live'])
  })

  it('the old one going while the new one’s token is awaited costs no third socket', async () => {
    let slow = 0
    await open({ getToken: () => new Promise((resolve) => setTimeout(() => resolve('t'), slow)) })
    last().connects()
    slow = 100
    last().says({ type: 'reconnect', afterMs: 10 })
    await vi.advanceTimersByTimeAsync(20)
    sockets[0]!.drops(1012)
    await vi.advanceTimersByTimeAsync(500)
    last().connects()
    await vi.advanceTimersByTimeAsync(1000)
    expect(sockets.length).toBe(2)
  })

  it('the old one going while the new one is being opened costs no second socket', async () => {
    const client = await open()
    const old = last().connects()
    old.says({ type: 'reconnect', afterMs: 0 })
    await vi.advanceTimersByTimeAsync(1)
    old.drops(1012)
    expect(client.state).toBe('recovering')
    last().connects()
    await vi.advanceTimersByTimeAsync(5000)
    expect([sockets.length, client.state]).toEqual([2, 'live'])
  })
})

describe('the browser', () => {
  it('offline drops the socket and tries nothing; online opens one at once', async () => {
    const client = await open()
    last().connects()
    network(false)
    expect(client.state).toBe('offline')
    await vi.advanceTimersByTimeAsync(60_000)
    expect(sockets.length).toBe(1)
    network(true)
    await settle()
    last().connects()
    expect([sockets.length, client.state]).toEqual([2, 'live'])
  })

  it('a page that is shown again does not wait out its backoff', async () => {
    await open()
    for (let n = 0; n < 8; n++) {
      last().drops()
      await vi.advanceTimersByTimeAsync(20_000)
    }
    last().drops()
    const count = sockets.length
    show('hidden')
    show('visible')
    await settle()
    expect(sockets.length).toBe(count + 1)
  })

  it('a page that is shown again, and whose socket does not answer within 3 s, opens another', async () => {
    await open()
    last().connects()
    last().alive = false
    show('hidden')
    show('visible')
    expect(last().sent.at(-1)).toEqual({ type: 'ping' })
    await vi.advanceTimersByTimeAsync(4500)
    expect(sockets.length).toBe(2)
  })

  it('a silent socket is pinged after the heartbeat, and given up when nothing comes for 5 s', async () => {
    await open()
    last().connects({ heartbeat: 20_000 })
    const pings = () => sockets[0]!.sent.filter((message) => message.type === 'ping').length
    await vi.advanceTimersByTimeAsync(19_000)
    expect(pings()).toBe(1)
    await vi.advanceTimersByTimeAsync(3000)
    expect([pings(), sockets.length]).toEqual([2, 1])
    last().alive = false
    await vi.advanceTimersByTimeAsync(28_000)
    expect(sockets.length).toBe(2)
  })

  it('after a sleep a socket is not given up for what it could not hear: it is asked', async () => {
    await open()
    last().connects()
    vi.setSystemTime(Date.now() + 3_600_000)
    await vi.advanceTimersByTimeAsync(1000)
    expect(last().sent.filter((message) => message.type === 'ping').length).toBe(2)
    await vi.advanceTimersByTimeAsync(10_000)
    expect(sockets.length).toBe(1)
    last().alive = false
    vi.setSystemTime(Date.now() + 3_600_000)
    await vi.advanceTimersByTimeAsync(6000)
    expect(sockets.length).toBe(2)
  })

  it('a page put away closes its socket, and one that comes from the cache opens another', async () => {
    const client = await open()
    last().connects()
    dispatchEvent(new Event('pagehide'))
    expect(sockets[0]!.closed).toBe(1000)
    await vi.advanceTimersByTimeAsync(60_000)
    expect(sockets.length).toBe(1)
    dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }))
    await settle()
    last().connects()
    expect([sockets.length, client.state]).toEqual([2, 'live'])
  })

  it('after close() no event of the browser opens anything', async () => {
    const client = await open()
    client.close()
    network(false)
    network(true)
    show('hidden')
    show('visible')
    dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }))
    await vi.advanceTimersByTimeAsync(60_000)
    expect([sockets.length, client.state]).toEqual([1, 'closed'])
  })
})

it('serverNow() follows the server’s clock, and the shortest round trip', async () => {
  const client = await open()
  const ahead = 5000
  last().alive = false
  last().connects({ serverTime: Date.now() + ahead - 40 })
  expect(client.serverNow() - Date.now()).toBe(ahead - 40)
  vi.setSystemTime(Date.now() + 10)
  last().says({ type: 'pong', timestamp: Date.now() + ahead - 5 })
  expect(client.serverNow() - Date.now()).toBe(ahead)
})

it('send() says whether there is a socket', async () => {
  const client = await open()
  expect(client.send({ type: 'presence', room: 'r:1' })).toBe(false)
  last().connects()
  const heard: string[] = []
  client.onMessage((message) => heard.push(message.type))
  expect(client.send({ type: 'presence', room: 'r:1' })).toBe(true)
  last().says({ type: 'presence', room: 'r:1', users: [], count: 0 })
  expect(heard).toEqual(['presence'])
})
