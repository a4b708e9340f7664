import { createServer, type Server as HttpServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { spawnSync } from 'node:child_process'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import WebSocket from 'ws'
import { createClient } from 'rooms-client'
import { createPublisher, PublishError } from 'rooms-client/publisher'
import { serve, until, type Server } from './server.js'

Object.assign(globalThis, { WebSocket })

describe('on nginx', () => {
  let server: Server
  beforeAll(async () => {
    server = await serve()
  })
  afterAll(() => server.stop())
  const publisher = (more = {}) => createPublisher({ url: `http://127.0.0.1:${server.port}/publish`, onError: () => {}, ...more })

  it('each helper is an event of its type, with the flat fields that old pages read', async () => {
    const client = createClient(server.url, { getToken: () => server.mint({ sub: 'u', exp: Math.floor(Date.now() / 1000) + 60 }) })
    // eslint-disable-next-line @typescript-eslint/no-explicit-any
    const events: any[] = []
    let joined = false
    client.subscribe('session:7', { onEvent: (event) => events.push(event), onSubscribed: () => (joined = true) })
    await until('the room', () => joined)
    const broadcast = publisher()
    await broadcast.sessionUpdate(7, 'building', 40, { by: 'agent' })
    await broadcast.sessionMessage(7, { id: 'm1', role: 'user', content: 'hi', createdAt: 5 })
    await broadcast.approvalRequested(7, { approvalId: 'a', action: 'deploy', expiresAt: 9 })
    await broadcast.approvalResolved(7, 'a', 'approved', 'u')
    await broadcast.buildProgress(7, 50, 'tests', { of: 3 })
    await broadcast.specGenerated(7, { spec: { title: 's' }, confidence: 0.5 })
    await broadcast.ticketsGenerated(7, [{ id: 1 }, { id: 2 }])
    await broadcast.toSession(7, 'anything')
    const [, toSession] = await broadcast.ticketUpdate('t1', 'done', { sessionId: 7, note: 'n' })
    expect(toSession!.room).toBe('session:7')
    await until('all', () => events.length === 9)
    client.close()
    expect(events.map(({ room, offset, timestamp, sessionId, ...rest }) => rest)).toEqual([
      { type: 'session:update', state: 'building', progress: 40, by: 'agent' },
      {
        type: 'session:message', messageId: 'm1', role: 'user', content: 'hi', messageType: 'text', createdAt: 5,
        message: { id: 'm1', role: 'user', content: 'hi', createdAt: 5 },
      },
      { type: 'approval:requested', approvalId: 'a', action: 'deploy', expiresAt: 9 },
      { type: 'approval:resolved', approvalId: 'a', status: 'approved', resolvedBy: 'u' },
      { type: 'build:progress', percent: 50, currentTask: 'tests', of: 3 },
      { type: 'spec:generated', spec: { title: 's' }, confidence: 0.5 },
      { type: 'tickets:generated', tickets: [{ id: 1 }, { id: 2 }], count: 2, ticketCount: 2 },
      { type: 'anything' },
      { type: 'ticket:update', ticketId: 't1', state: 'done', note: 'n' },
    ])
  })

  it('tickets go to their project and session where these are named, progress to the project', async () => {
    const broadcast = publisher()
    const rooms = (published: { room: string }[]) => published.map(({ room }) => room)
    const around = { projectId: 'p', sessionId: 's' }
    expect(rooms(await broadcast.ticketUpdate('t', 'done'))).toEqual(['ticket:t'])
    expect(rooms(await broadcast.ticketUpdate('t', 'done', around))).toEqual(['ticket:t', 'project:p', 'session:s'])
    expect(rooms(await broadcast.prCreated('t', 'https://x', around))).toEqual(['ticket:t', 'project:p', 'session:s'])
    expect(rooms(await broadcast.ticketProgress('t', 'coding', 'now', around))).toEqual(['ticket:t', 'project:p'])
    expect((await broadcast.toTenant('acme', 'x')).room).toBe('tenant:acme')
    expect((await broadcast.toRoom('backlog:acme', 'x')).room).toBe('backlog:acme')
  })

  it('a refusal is a PublishError that says why, at once', async () => {
    const told: PublishError[] = []
    const failure = await publisher({ onError: (error: PublishError) => told.push(error) })
      .toRoom('no room', 'x')
      .catch((error) => error)
    expect(failure).toBeInstanceOf(PublishError)
    expect([failure.code, failure.status, failure.type, failure.rooms]).toEqual(['bad_room', 400, 'x', ['no room']])
    expect(told).toEqual([failure])
    const secretless = await publisher({ url: `http://127.0.0.1:${server.port}/secret` }).toRoom('session:1', 'x').catch((error) => error)
    expect([secretless.status, secretless.code]).toEqual([401, 'unauthorized'])
    await publisher({ url: `http://127.0.0.1:${server.port}/secret`, secret: server.secret }).toRoom('session:1', 'x')
  })

  it('data that is no JSON is a PublishError too', async () => {
    const loop: Record<string, unknown> = {}
    loop.loop = loop
    const failure = await publisher().toRoom('session:1', 'x', loop).catch((error) => error)
    expect([failure.name, failure.code]).toEqual(['PublishError', 'bad_json'])
  })
})

describe('on a server that fails', () => {
  let http: HttpServer
  const bodies: string[] = []
  const listen = async (answer: (n: number) => [number, unknown, Record<string, string>?] | undefined) => {
    bodies.length = 0
    http = createServer(async (request, response) => {
      let body = ''
      for await (const chunk of request) body += chunk
      bodies.push(body)
      const [status, json, headers] = answer(bodies.length) ?? []
      if (!status) return request.socket.destroy()
      response.writeHead(status, { 'Content-Type': 'application/json', ...headers })
      response.end(JSON.stringify(json))
    })
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
    return `http://127.0.0.1:${(http.address() as AddressInfo).port}/publish`
  }
  afterEach(
    () =>
      new Promise((resolve) => {
        http.close(resolve)
        http.closeAllConnections()
      }),
  )

  it('503 and lost answers are tried again with the same bytes, in which there is a key', async () => {
    const url = await listen((n) => (n === 1 ? [503, { error: { code: 'unavailable', message: 'm' } }] : n === 2 ? undefined : [200, { room: 'r:1', offset: 1 }]))
    expect((await createPublisher({ url }).toRoom('r:1', 'x', { a: 1 })).offset).toBe(1)
    expect(bodies.length).toBe(3)
    expect(new Set(bodies).size).toBe(1)
    expect(JSON.parse(bodies[0]!).key).toMatch(/^[0-9a-f-]{36}$/)
  })

  it('Retry-After is waited for', async () => {
    const url = await listen((n) => (n === 1 ? [503, {}, { 'Retry-After': '1' }] : [200, { room: 'r:1' }]))
    const begun = Date.now()
    await createPublisher({ url }).toRoom('r:1', 'x')
    expect(Date.now() - begun).toBeGreaterThanOrEqual(990)
  })

  it('after all attempts it throws, tells onError once, and ends there', async () => {
    const url = await listen(() => [503, { error: { code: 'unavailable', message: 'no place' } }])
    const told: string[] = []
    const failure = await createPublisher({ url, attempts: 3, onError: (error) => told.push(error.code) }).toRoom('r:1', 'x').catch((error) => error)
    expect([bodies.length, failure.status, failure.message, told]).toEqual([3, 503, 'x to r:1: no place', ['unavailable']])
  })

  it('an answer that was cut off is asked for again, since it may have been taken', async () => {
    const url = await listen((n) => [200, n === 1 ? undefined : { room: 'r:1', duplicate: true }])
    expect((await createPublisher({ url }).toRoom('r:1', 'x')).duplicate).toBe(true)
  })

  it('of several rooms, the first refusal is told', async () => {
    const url = await listen(() => [400, { results: [{ room: 'ticket:t', offset: 1 }, { error: { code: 'bad_room', message: 'no room' } }] }])
    const failure = await createPublisher({ url, onError: () => {} }).ticketUpdate('t', 'done', { projectId: ' ' }).catch((error) => error)
    expect([failure.code, failure.status]).toEqual(['bad_room', 400])
  })

  it('whatever it is given it answers with a promise', async () => {
    const url = await listen(() => [200, { room: 'r:1' }])
    const broadcast = createPublisher({ url })
    const nothing = undefined as never
    await Promise.all([
      broadcast.sessionMessage('1', nothing), broadcast.ticketsGenerated('1', nothing), broadcast.ticketUpdate('1', 'x', null as never),
      broadcast.ticketProgress('1', 'x', 'm', null as never), broadcast.prCreated('1', 'x', null as never), broadcast.approvalRequested('1', nothing),
    ])
  })

  it('an attempt has its time', async () => {
    const url = await listen(() => [200, { room: 'r:1' }])
    http.removeAllListeners('request')
    const failure = await createPublisher({ url, attempts: 1, timeout: 200, onError: () => {} }).toRoom('r:1', 'x').catch((error) => error)
    http.closeAllConnections()
    expect([failure.code, failure.status]).toEqual(['unreachable', 0])
  })

  it('nobody awaits it, nobody answers: one line on the console, and the process lives', async () => {
    await listen(() => [200, {}])
    const done = spawnSync(process.execPath, ['--input-type=module', '-e', `
      import { createPublisher } from ${JSON.stringify(new URL('../dist/publisher.js', import.meta.url).href)}
      const broadcast = createPublisher({ url: 'http://127.0.0.1:1/publish', attempts: 2 })
      broadcast.sessionUpdate(1, 'x')
      broadcast.ticketUpdate(1, 'x')
      createPublisher({ url: 'http://127.0.0.1:1/publish', attempts: 0, onError() { throw new Error('mine') } }).toRoom('r:1', 'x')
      setTimeout(() => console.log('alive'), 1500)
    `], { encoding: 'utf8' })
    expect([done.status, done.stdout]).toEqual([0, 'alive\n'])
    expect(done.stderr).toContain('rooms: onError failed: Error: mine')
    expect(done.stderr.match(/^rooms: \w+:\w+ to .*/gm)!.map((line) => line.replace(/ does not answer.*/, '')).sort()).toEqual([
      'rooms: session:update to session:1: http://127.0.0.1:1/publish',
      'rooms: ticket:update to ticket:1: http://127.0.0.1:1/publish',
    ])
  })
})
