// @vitest-environment jsdom
import { StrictMode, act, useEffect, useState, type ReactNode } from 'react'
import { createRoot, type Root } from 'react-dom/client'
import { renderToString } from 'react-dom/server'
import * as React from 'react'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { ConnectionStatus, RoomsProvider, WS_STATE, configure, useConnectionState, useServerNow, useSessionWebSocket, useWebSocket } from 'rooms-client/react'
import { fake, last, real, settle, sockets } from './fake-socket.js'
import { serve, until, type Server } from './server.js'

Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true })
const roots: Root[] = []
function render(node: ReactNode) {
  const place = document.createElement('div')
  const root = createRoot(place)
  roots.push(root)
  act(() => root.render(node))
  return { place, again: (other: ReactNode) => act(() => root.render(other)) }
}
const unmount = () => roots.splice(0).forEach((root) => act(() => root.unmount()))

describe(`React ${React.version}`, () => {
  beforeEach(fake)
  afterEach(async () => {
    unmount()
    await vi.advanceTimersByTimeAsync(2000)
    configure({ url: undefined, getToken: undefined })
    real()
  })
  const says = async (what: () => void) => {
    await act(async () => {
      what()
      await settle()
    })
  }
  const wrap = (node: ReactNode) => (
    <StrictMode>
      <RoomsProvider url="ws://host/ws" getToken={() => 't'}>
        {node}
      </RoomsProvider>
    </StrictMode>
  )

  it('StrictMode and many components open one socket, closed with the last of them', async () => {
    const Part = ({ room }: { room: string }) => <i>{useWebSocket({ room }).state}</i>
    const { place, again } = render(wrap([<Part key="1" room="r:1" />, <Part key="2" room="r:1" />, <Part key="3" room="r:2" />]))
    await says(() => {})
    expect([sockets.length, last().token]).toEqual([1, 't'])
    await says(() => last().connects())
    expect([last().asks('r:1').length, last().asks('r:2').length]).toEqual([1, 1])
    expect(place.textContent).toBe('connectedconnectedconnected')
    again(wrap(null))
    await says(() => vi.advanceTimersByTime(1))
    expect([last().closed, sockets.length]).toEqual([1000, 1])
  })

  it('every event reaches its handler, the newest one, without joining anew', async () => {
    const seen: string[] = []
    const Part = () => {
      const [count, setCount] = useState(0)
      const { lastMessage } = useWebSocket({
        room: 'r:1',
        handlers: {
          x: (event) => {
            seen.push(`${event.offset} after ${count}`)
            setCount((before) => before + 1)
          },
          onMessage: (event) => seen.push(`any ${event.offset}`),
        },
      })
      return <b>{count} {lastMessage?.offset}</b>
    }
    const { place } = render(wrap(<Part />))
    await says(() => {})
    await says(() => last().connects().joins('r:1'))
    await says(() => {
      for (let n = 1; n <= 100; n++) last().event('r:1', n)
    })
    expect(place.textContent).toBe('100 100')
    expect(seen.filter((line) => line.startsWith('any')).length).toBe(100)
    await says(() => last().event('r:1', 101))
    expect(seen).toContain('101 after 100')
    expect(last().asks('r:1').length).toBe(1)
  })

  it('another room leaves the old one, on the same socket', async () => {
    const Part = ({ id }: { id: string }) => <i>{useSessionWebSocket(id).sessionId}</i>
    const { again } = render(wrap(<Part id="1" />))
    await says(() => {})
    await says(() => last().connects().joins('session:1'))
    again(wrap(<Part id="2" />))
    await says(() => vi.advanceTimersByTime(100))
    expect(last().sent.filter(({ type }) => type !== 'ping').map(({ type, room }) => `${type} ${room}`)).toEqual([
      'subscribe session:1', 'subscribe session:2', 'unsubscribe session:1',
    ])
    expect(sockets.length).toBe(1)
  })

  it('enabled: false has no socket and says disconnected; no room joins nothing', async () => {
    const states: string[] = []
    const Part = ({ enabled, room }: { enabled: boolean; room?: string }) => {
      states.push(useWebSocket({ room, enabled }).state)
      return null
    }
    const { again } = render(wrap(<Part enabled={false} room="r:1" />))
    await says(() => {})
    expect([sockets.length, states.at(-1)]).toEqual([0, WS_STATE.DISCONNECTED])
    again(wrap(<Part enabled />))
    await says(() => {})
    await says(() => last().connects())
    expect([sockets.length, states.at(-1), last().sent.filter(({ type }) => type === 'subscribe')]).toEqual([1, 'connected', []])
  })

  it('each handler of a session hears its events, timeouts are both resolved and timed out', async () => {
    const heard: string[] = []
    const on = (name: string) => () => void heard.push(name)
    const Part = () => {
      useSessionWebSocket(7, {
        onSessionUpdate: on('update'), onNewMessage: on('message'), onSpecGenerated: on('spec'), onTicketsGenerated: on('tickets'),
        onApprovalNeeded: on('needed'), onApprovalResolved: on('resolved'), onApprovalTimeout: on('timeout'), onBuildProgress: on('progress'),
        onGap: on('gap'), onConnect: on('connect'), onDisconnect: on('disconnect'), onError: on('error'), onSubscribed: on('subscribed'),
        'custom:type': on('custom'), 'session:update': on('raw update'),
      })
      return null
    }
    render(<RoomsProvider url="ws://host/ws" getToken={() => 't'}><Part /></RoomsProvider>)
    await says(() => {})
    await says(() => last().connects())
    await says(() => last().joins('session:7'))
    const types = ['session:update', 'session:message', 'spec:generated', 'tickets:generated', 'approval:requested', 'build:progress', 'custom:type']
    await says(() => {
      types.forEach((type, n) => last().event('session:7', n + 1, { type }))
      last().event('session:7', 8, { type: 'approval:resolved', status: 'approved' })
      last().event('session:7', 9, { type: 'approval:resolved', status: 'timeout' })
      last().says({ type: 'gap', room: 'session:7', epoch: 'e', offset: 20, reason: 'trimmed' })
      last().says({ type: 'error', code: 'forbidden', room: 'session:7', message: 'no', retryable: false })
    })
    await says(() => last().drops())
    expect(heard).toEqual(['connect', 'subscribed', 'raw update', 'update', 'message', 'spec', 'tickets', 'needed', 'progress', 'custom', 'resolved',
      'resolved', 'timeout', 'gap', 'error', 'disconnect'])
  })

  it('denied is the state error, told to onError, and left by reconnect()', async () => {
    let login = false
    const errors: string[] = []
    let hook!: ReturnType<typeof useWebSocket>
    const Part = () => {
      hook = useWebSocket({ room: 'r:1', handlers: { onError: (error) => errors.push(error.message) } })
      return <i>{hook.state}</i>
    }
    const { place } = render(<RoomsProvider url="ws://host/ws" getToken={async () => (login ? 't' : Promise.reject(new Error('logged out')))}><Part /></RoomsProvider>)
    await says(() => {})
    expect([place.textContent, hook.connectionState, errors, sockets.length]).toEqual(['error', 'denied', ['logged out'], 0])
    login = true
    await says(() => hook.reconnect())
    await says(() => last().connects())
    expect(place.textContent).toBe('connected')
  })

  it('subscribe() and unsubscribe() add rooms with the same handlers, until the component goes', async () => {
    const seen: string[] = []
    let hook!: ReturnType<typeof useWebSocket>
    const Part = () => {
      hook = useWebSocket({ handlers: { onMessage: ({ room }) => seen.push(room) } })
      return null
    }
    const { again } = render(wrap([<Part key="1" />, <ConnectionStatus key="2" />]))
    await says(() => {})
    await says(() => last().connects())
    await says(() => {
      hook.subscribe('r:1')
      hook.subscribe('r:1')
      hook.subscribe('r:2')
    })
    await says(() => last().joins('r:1').joins('r:2').event('r:1', 1).event('r:2', 1))
    expect(seen).toEqual(['r:1', 'r:2'])
    await says(() => hook.unsubscribe('r:1'))
    again(wrap([<ConnectionStatus key="2" />]))
    await says(() => vi.advanceTimersByTime(100))
    expect(last().sent.filter(({ type }) => type === 'unsubscribe').map(({ room }) => room)).toEqual(['r:1', 'r:2'])
  })

  it('subscribe() from a child’s effect, before its parent’s own, is not lost', async () => {
    const Child = ({ subscribe }: { subscribe: (room: string) => void }) => {
      useEffect(() => subscribe('r:9'), [subscribe])
      return null
    }
    const Parent = () => <Child subscribe={useWebSocket().subscribe} />
    render(<RoomsProvider url="ws://host/ws" getToken={() => 't'}><Parent /></RoomsProvider>)
    await says(() => {})
    await says(() => last().connects())
    expect(last().asks('r:9').length).toBe(1)
  })

  it('configure() stands for the provider; without either it is /ws on the page’s host', async () => {
    const Part = () => <i>{useConnectionState()}</i>
    render(<Part />)
    await says(() => {})
    expect(last().url).toBe('ws://localhost:3000/ws')
    configure({ url: 'ws://else/ws', getToken: () => 'c' })
    render(<Part />)
    await says(() => {})
    expect([last().url, last().token]).toEqual(['ws://else/ws', 'c'])
  })

  it('ConnectionStatus says it in words, to screen readers too', async () => {
    const { place } = render(wrap(<ConnectionStatus className="mine" />))
    await says(() => {})
    const status = () => place.querySelector('[role=status]')!
    const texts = [status().textContent]
    await says(() => last().connects())
    texts.push(status().textContent)
    await says(() => last().drops())
    texts.push(status().textContent)
    vi.spyOn(navigator, 'onLine', 'get').mockReturnValue(false)
    await says(() => dispatchEvent(new Event('offline')))
    texts.push(status().textContent)
    expect(texts).toEqual(['● Connecting…', '● Live', '● Reconnecting…', '● Offline'])
    expect([status().getAttribute('aria-label'), status().className]).toEqual(['Connection: Offline', 'rooms-status mine'])
  })

  it('useServerNow() is the server’s clock', async () => {
    let now!: () => number
    const Part = () => {
      now = useServerNow()
      useConnectionState()
      useEffect(() => {}, [])
      return null
    }
    render(wrap(<Part />))
    await says(() => {})
    last().alive = false
    await says(() => last().connects({ serverTime: Date.now() + 60_000 }))
    expect(now() - Date.now()).toBe(60_000)
  })

  it('renders on a server, without a socket', () => {
    expect(renderToString(wrap(<ConnectionStatus />))).toContain('Connecting…')
    expect(sockets.length).toBe(0)
  })
})

describe('an app of the platform', () => {
  let server: Server
  beforeAll(async () => {
    server = await serve()
    Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: false })
  })
  afterAll(() => server.stop())
  afterEach(() => {
    vi.doUnmock('./old-app/hooks/index.js')
    vi.resetModules()
  })

  for (const which of ['its own hooks', 'the one line changed']) {
    it(`shows the same with ${which}`, async () => {
      const token = await server.mint({ sub: 'u', exp: Math.floor(Date.now() / 1000) + 60 })
      if (which === 'the one line changed') {
        vi.doMock('./old-app/hooks/index.js', async () => {
          const { useWebSocket, useSessionWebSocket, WS_STATE } = await import('rooms-client/react')
          return { useWebSocket, useSessionWebSocket, WS_STATE }
        })
        const { configure } = await import('rooms-client/react')
        configure({ url: server.url, getToken: () => token, share: false })
      } else Object.assign((await import('./old-app/hooks/old.js')).place, { url: server.url, token })
      const { App } = await import('./old-app/App.js')
      const { createRoot } = await import('react-dom/client')
      const place = document.createElement('div')
      const root = createRoot(place)
      const id = which.replaceAll(' ', '-')
      root.render(<App id={id} />)
      const room = `session:${id}`
      await until('live', () => place.querySelector('header')?.textContent === `live in ${id}`)
      await until('a member', async () => (await server.ask('members', room)) === 1)
      await server.publish(room, 'session:update', { state: 'building', progress: 5 })
      await server.publish(room, 'session:message', { message: { content: 'hi' } })
      await server.publish(room, 'spec:generated', { spec: { title: 'S' } })
      await server.publish(room, 'tickets:generated', { tickets: [], count: 0 })
      await server.publish(room, 'approval:requested', { approvalId: 'a1' })
      await server.publish(room, 'approval:resolved', { status: 'approved' })
      await server.publish(room, 'build:progress', { percent: 9 })
      await until('the last', () => place.querySelector('footer')?.textContent === 'build:progress')
      expect([...place.querySelectorAll('li')].map((line) => line.textContent)).toEqual([
        'state building 5', 'message hi', 'spec S', 'tickets 0', 'approve? a1', 'resolved approved', 'progress 9',
      ])
      root.unmount()
    })
  }
})
