// The client on the real module, with `ws` as the browser's WebSocket.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import WebSocket from 'ws'
import { createClient, type Client, type ClientOptions, type Gap, type RoomEvent } from 'rooms-client'
import { serve, until, type Server } from './server.js'

Object.assign(globalThis, { WebSocket })
const clients: Client[] = []

for (const broker of ['zone', 'redis']) {
  describe(`on ${broker}`, () => {
    let server: Server
    beforeAll(async () => {
      server = await serve({ CLIENT_BROKER: broker })
    })
    afterAll(() => server.stop())
    afterEach(() => clients.splice(0).forEach((client) => client.close()))

    const connect = (options: ClientOptions = {}, url = server.url) => {
      const client = createClient(url, { getToken: () => server.mint({ sub: 'u1', exp: Math.floor(Date.now() / 1000) + 600 }), ...options })
      clients.push(client)
      return client
    }
    const watch = (client: Client, room: string) => {
      const seen = { numbers: [] as number[], gaps: [] as Gap[], errors: [] as string[], joins: 0, leave: () => {} }
      seen.leave = client.subscribe(room, {
        onEvent: (event: RoomEvent) => seen.numbers.push(event.n),
        onGap: (gap) => seen.gaps.push(gap),
        onError: (error) => seen.errors.push(error.code),
        onSubscribed: () => seen.joins++,
      })
      return seen
    }
    const range = (to: number) => Array.from({ length: to }, (_, n) => n + 1)
    let rooms = 0
    const room = (kind = 'session') => `${kind}:${broker}${++rooms}`

    it('joins, hears, and leaves', async () => {
      const client = connect()
      const name = room()
      const seen = watch(client, name)
      await until('the room', () => seen.joins)
      await server.publish(name, 'x', { n: 1 })
      await until('the event', () => seen.numbers.length)
      seen.leave()
      await until('nobody there', async () => (await server.ask('members', name)) === 0)
      expect(Math.abs(client.serverNow() - Date.now())).toBeLessThan(50)
    })

    it('misses nothing through kills of all workers and reloads, and repeats nothing', async () => {
      const names = [room(), room(), room()]
      const client = connect()
      const seen = names.map((name) => watch(client, name))
      await until('the rooms', () => seen.every((one) => one.joins))
      let n = 0
      for (const fault of ['kill_workers', 'reload', 'kill_workers', 'reload']) {
        const done = server.ask(fault)
        for (let i = 0; i < 15; i++) {
          n++
          for (const name of names) await until('a publish that is taken', () => server.publish(name, 'x', { n }).catch(() => false))
        }
        await done
      }
      await until('all', () => seen.every((one) => one.numbers.length >= n))
      for (const one of seen) expect([one.numbers, one.gaps]).toEqual([range(n), []])
    })

    it('a reload is no moment without a socket: no state but live, nothing lost without a word in a room without history', async () => {
      const client = connect()
      const name = room('bare')
      const seen = watch(client, name)
      await until('the room', () => seen.joins)
      const states: string[] = []
      client.onState((state) => states.push(state))
      let n = 0
      const reloading = server.ask('reload')
      const end = Date.now() + 2500
      while (Date.now() < end) await server.publish(name, 'x', { n: ++n })
      await reloading
      await until('the last', () => seen.numbers.at(-1) === n)
      // Both sockets are there meanwhile. An event may still be on its way to the old one, which is another worker's, when the new
      // one has answered: that is told.
      if (!seen.gaps.length) expect([seen.numbers, seen.gaps]).toEqual([range(n), []])
      expect([seen.gaps.length <= 1, states]).toEqual([true, []])
    })

    it('a position that is gone is one gap, and then it goes on', async () => {
      const name = room()
      const client = connect()
      await server.publish(name, 'x', { n: 1 })
      const seen = watch(client, name)
      seen.leave()
      const gaps: Gap[] = []
      const numbers: number[] = []
      client.subscribe(room(), {})
      client.subscribe(name + 'x', { onGap: (gap) => gaps.push(gap), onEvent: (event) => numbers.push(event.n) }, { epoch: 'gone', offset: 7 })
      await until('the gap', () => gaps.length)
      await server.publish(name + 'x', 'x', { n: 2 })
      await until('the event', () => numbers.length)
      expect([gaps.length, numbers]).toEqual([1, [2]])
    })

    it('a room that no rule opens is forbidden', async () => {
      const seen = watch(connect(), 'other:1')
      await until('the refusal', () => seen.errors.length)
      expect(seen.errors).toEqual(['forbidden'])
    })

    it('a token is renewed in-band before its end, on the same socket', async () => {
      let minted = 0
      const client = connect({
        getToken: () => {
          minted++
          return server.mint({ sub: 'u1', exp: Math.floor(Date.now() / 1000) + (minted === 1 ? 4 : 600) })
        },
      })
      const states: string[] = []
      let renewed = false
      client.onState((state) => states.push(state))
      client.onMessage((message) => (renewed ||= message.type === 'auth:ok'))
      await until('auth:ok', () => renewed)
      await new Promise((resolve) => setTimeout(resolve, 4500))
      expect([minted, states]).toEqual([2, ['live']])
    })

    it('a bad token is asked for once more, and then denied', async () => {
      let asked = 0
      const client = connect({ getToken: () => `no.token.${++asked}` })
      await until('denied', () => client.state === 'denied')
      expect([asked, client.error?.code]).toEqual([2, 'bad_token'])
    })

    it('many rooms on a rate stricter than the default are all joined, after at most one more socket', async () => {
      const client = connect({}, server.url.replace('/ws', '/strict'))
      const seen = range(30).map(() => watch(client, room()))
      const states: string[] = []
      client.onState((state) => states.push(state))
      await until('all rooms', () => seen.every((one) => one.joins), 40_000)
      expect(states.length).toBeLessThanOrEqual(3)
      expect(client.state).toBe('live')
    }, 60_000)

    if (broker === 'redis') {
      it('a restart of Redis is heard of by nobody but who publishes', async () => {
        const client = connect()
        const name = room()
        const seen = watch(client, name)
        await until('the room', () => seen.joins)
        await server.publish(name, 'x', { n: 1 })
        await server.ask('restart_redis')
        await until('a publish that is taken', () => server.publish(name, 'x', { n: 2 }).catch(() => false))
        await until('both', () => seen.numbers.length >= 2)
        expect([seen.numbers, client.state]).toEqual([[1, 2], 'live'])
      })
    }
  })
}
