// The client: which socket is open and why, where the page is in each room, and who wants to hear of it.
//
// Positions make it exact: an event is given to its handlers if it is the very next of its room. What was had before is dropped;
// after a hole, and after each new socket, the room is asked for again from its position, and nothing is given until the answer.
import { openSocket, type Events, type Message, type Transport } from './socket.js'
import { joinTabs, visible, type Tabs } from './tabs.js'
import type { Client, ClientOptions, ConnectionState, Position, RoomEvent, RoomHandlers, RoomsError } from './types.js'

const FIRST_MS = 300
const LONGEST_MS = 20_000
/** A socket that lived so long was a good one: the next attempt starts from FIRST_MS. */
const GOOD_MS = 5_000
const ANSWER_MS = 10_000
const OVERLAP_MS = 3_000
const LEAVE_MS = 50

interface Room {
  readonly name: string
  readonly handlers: Set<RoomHandlers>
  position?: Position
  /** Joined there. */
  on?: Transport
  /** A question under way. */
  asked?: { ref: string; on: Transport; since?: Position }
  refused?: RoomsError
  timer?: ReturnType<typeof setTimeout>
}

/** Token claims that differ between two tokens of the same session. */
const MINTED = ['exp', 'iat', 'nbf', 'jti', 'auth_time']

/** Who a token is for; undefined: nobody can say, so nothing is shared. */
function identity(token: string | undefined): string | undefined {
  try {
    const text = atob(token!.split('.')[1]!.replace(/-/g, '+').replace(/_/g, '/'))
    const claims = Object.entries(JSON.parse(text) as object).filter(([name]) => !MINTED.includes(name))
    return claims.length ? JSON.stringify(claims.sort()) : undefined
  } catch {
    return undefined
  }
}

const call = <A>(handler: ((argument: A) => void) | undefined, argument: A) => {
  try {
    handler?.(argument)
  } catch (error) {
    // The others hear of it all the same, and the page sees the error as its own.
    setTimeout(() => {
      throw error
    })
  }
}
const jitter = (most: number) => Math.random() * most

/** A client of the endpoint at `url` (`wss://…`, or a path on the page's host). It connects at once. */
export function createClient(url: string, options: ClientOptions = {}): Client {
  const at = typeof location === 'undefined' ? url : new URL(url, location.href).href.replace(/^http/, 'ws')
  const tab = Math.random().toString(36).slice(2)
  const rooms = new Map<string, Room>()
  const stateListeners = new Set<(state: ConnectionState) => void>()
  const messageListeners = new Set<(message: Message) => void>()
  let state: ConnectionState = 'connecting'
  let denial: RoomsError | undefined
  /** Delivers. */
  let current: Transport | undefined
  /** Being opened, beside current where the server said `reconnect`. */
  let next: Transport | undefined
  let tabs: Tabs | undefined
  let tabsOf: string | undefined
  let attempt = 0
  /** Changes whenever what was begun before no longer counts. */
  let turn = 0
  let timer: ReturnType<typeof setTimeout> | undefined
  let liveSince = 0
  let everLive = false
  let refusals = 0
  let refusedToken: string | undefined
  let token: string | undefined
  let clock = 0
  let refs = 0

  const become = (to: ConnectionState) => {
    if (state === to) return
    state = to
    for (const listener of [...stateListeners]) call(listener, to)
  }

  const away = () => current || become(everLive ? 'recovering' : 'connecting')

  // --- sockets

  const openAfter = (ms: number) => {
    turn++
    clearTimeout(timer)
    timer = setTimeout(open, ms)
  }
  const leaveTabs = () => {
    tabs?.leave()
    tabs = tabsOf = undefined
  }
  /** No socket, nothing under way. */
  const stop = (to: ConnectionState) => {
    turn++
    clearTimeout(timer)
    current?.close()
    next?.close()
    current = next = undefined
    for (const room of rooms.values()) room.on = room.asked = undefined
    leaveTabs()
    become(to)
  }
  const deny = (why: string, code = 'denied') => {
    denial = { code, message: why, retryable: false }
    stop('denied')
  }
  const backOff = (least = 0) => {
    attempt = Math.max(attempt, least)
    openAfter(jitter(Math.min(LONGEST_MS, FIRST_MS * 2 ** attempt++)))
  }

  /** `again`: a follower goes on with the next socket of its group, which needs no token. */
  const open = async (again?: boolean) => {
    const mine = ++turn
    clearTimeout(timer)
    next?.close()
    next = undefined
    away()
    if (globalThis.navigator?.onLine === false) return stop('offline')
    if (again && tabs && !(await tabs.leads())) {
      if (mine === turn) next = tabs.follow(events)
      return
    }
    if (mine !== turn) return
    try {
      token = await options.getToken?.()
      if (mine !== turn) return
      if (token && token === refusedToken) return deny('the token was refused', 'bad_token')

      const may = options.share !== false && globalThis.BroadcastChannel && globalThis.navigator?.locks
      const who = may && identity(token)
      const name = who ? `rooms ${at} ${who}` : undefined
      if (name !== tabsOf) {
        leaveTabs()
        if (name) {
          tabs = joinTabs(name, tab, () => {
            next?.close()
            next = undefined
            current?.close()
            lost(current, 4200)
          })
          tabsOf = name
        }
      }
      const group = tabs
      const leads = await group?.leads()
      if (mine !== turn) return
      const dial = (inner: Events) => openSocket(at, token, options.tokenIn, inner)
      next = !group ? dial(events) : leads ? group.lead(dial, events) : group.follow(events)
    } catch (error) {
      // Of getToken(); or the URL or the token is none that a WebSocket takes.
      if (mine !== turn) return
      const passing = error instanceof TypeError || (error as { retryable?: boolean } | null)?.retryable
      if (passing) backOff()
      else deny(String((error as Error | null)?.message ?? error))
    }
  }

  const lost = (transport: Transport | undefined, code: number, reason = '') => {
    if (transport && transport !== current && transport !== next) return
    if (transport === current) {
      current = undefined
      if (liveSince && Date.now() - liveSince > GOOD_MS) attempt = 0
      for (const room of rooms.values()) if (room.on === transport) room.on = undefined
    }
    for (const room of rooms.values()) if (room.asked?.on === transport) room.asked = undefined
    // The other one is there, or coming.
    if (transport !== next && next) return away()
    next = undefined
    away()
    if (code === 4001 || code === 4002) {
      if (refusals++) return deny(reason || 'the token was refused', 'bad_token')
      refusedToken = token
      void open()
    } else if (code >= 4000 && code < 4100) deny(reason || 'not allowed', 'forbidden')
    else if (code === 4200) void open(true)
    else if (code > 4200 && code < 4300) openAfter(jitter(FIRST_MS))
    else backOff(code >= 4100 && code < 4200 ? 2 : 0)
  }

  const events: Events = {
    onOpen(transport, hello) {
      const old = current
      current = transport
      next = undefined
      everLive = true
      liveSince = Date.now()
      refusals = 0
      refusedToken = denial = undefined
      clock = transport.clock
      for (const room of rooms.values()) ask(room)
      become('live')
      hear(hello)
      if (!old) return
      // It delivers until the rooms have been resumed here.
      const since = Date.now()
      const drop = () => {
        const resuming = [...rooms.values()].some((room) => room.on === old && room.asked)
        if (resuming && Date.now() - since < OVERLAP_MS) return setTimeout(drop, 20)
        for (const room of rooms.values()) if (room.on === old) room.on = undefined
        old.close()
      }
      drop()
    },
    onMessage(transport, message) {
      clock = transport.clock
      const room = rooms.get(message.room)
      if (message.ref && room?.asked?.ref === message.ref) answer(room!, message)
      else if (message.type === 'gap') {
        if (room?.on === transport) gap(room, message)
      } else if (message.offset > 0) {
        if (room && message.type !== 'subscribed') given(transport, room, message)
      } else if (message.type === 'error') {
        // Thrown out. (`rate` does not say what it passed over: that is asked again when no answer comes.)
        if (room?.on === transport && !message.ref) failed(room, message)
      } else if (message.type === 'reconnect') {
        if (transport === current && !next) openAfter(message.afterMs)
      } else if (message.type === 'token:expiring') void refresh(transport)
      else if (message.type === 'auth:ok') {
        for (const room of rooms.values()) if (room.refused) ask(room)
      }
      hear(message)
    },
    onClose: lost,
  }
  const hear = (message: Message) => {
    for (const listener of [...messageListeners]) call(listener, message)
  }

  // The old socket may go on with another token of the same user; another user needs another socket.
  const refresh = async (transport: Transport): Promise<void> => {
    try {
      const fresh = await options.getToken?.()
      if (transport !== current || !fresh) return
      if (identity(fresh) !== identity(token)) return client.reconnect()
      token = fresh
      transport.send({ type: 'auth', token: fresh })
    } catch {
      // Until the token's end it may be had yet; then 4201 asks for it again.
      setTimeout(() => transport === current && refresh(transport), FIRST_MS * 10)
    }
  }

  // --- rooms

  const tell = <Name extends keyof RoomHandlers>(room: Room, name: Name, argument: Parameters<NonNullable<RoomHandlers[Name]>>[0]) => {
    for (const handlers of [...room.handlers]) call((told: never) => handlers[name]?.(told), argument as never)
  }
  const ask = (room: Room, ref = tab + ++refs) => {
    clearTimeout(room.timer)
    room.refused = undefined
    if (!current) return
    const since = room.position && { ...room.position }
    room.asked = { ref, on: current, since }
    current.send({ type: 'subscribe', room: room.name, ref, since })
    room.timer = setTimeout(() => room.asked?.ref === ref && ask(room, ref), ANSWER_MS)
  }
  const failed = (room: Room, { code, message, retryable }: Message) => {
    const error = { code, message, retryable, room: room.name }
    room.on = room.asked = undefined
    clearTimeout(room.timer)
    if (retryable) room.timer = setTimeout(() => ask(room), FIRST_MS * 3 + jitter(FIRST_MS * 10))
    else room.refused = error
    tell(room, 'onError', error)
  }
  const answer = (room: Room, message: Message) => {
    const { on, since } = room.asked!
    if (message.type === 'error') return failed(room, message)
    if (message.type !== 'subscribed') return
    clearTimeout(room.timer)
    room.asked = undefined
    room.on = on
    const { epoch, offset } = message
    const at = room.position
    // The old socket may have brought meanwhile what a room without history cannot bring again.
    const whole = !since || message.recovered || (at!.epoch === epoch && since.offset <= offset && at!.offset >= offset)
    if (!whole) gap(room, { epoch, offset, reason: 'position' })
    else if (!at) room.position = { epoch, offset }
    tell(room, 'onSubscribed', { epoch, offset })
  }
  const gap = (room: Room, { epoch, offset, reason }: Message) => {
    room.position = { epoch, offset }
    tell(room, 'onGap', { room: room.name, epoch, offset, reason })
  }
  const given = (transport: Transport, room: Room, event: RoomEvent) => {
    if (room.on !== transport || event.offset <= room.position!.offset) return
    if (event.offset > room.position!.offset + 1) {
      room.on = undefined
      return ask(room)
    }
    room.position!.offset++
    tell(room, 'onEvent', event)
  }
  // --- the browser

  const wake = () => {
    if (!visible() || state === 'denied') return
    if (current) current.probe()
    else if (!next || state === 'offline') void open()
  }
  // The page is put away, or frozen: whoever takes over the socket must not wait for it.
  const suspend = () => state !== 'denied' && stop('recovering')
  const resume = () => state !== 'denied' && !current && void open()
  let ears: AbortController | undefined
  const listen = () => {
    if (ears || typeof document === 'undefined') return
    ears = new AbortController()
    const { signal } = ears
    const on = (where: EventTarget, name: string, act: (event: PageTransitionEvent) => void) =>
      where.addEventListener(name, act as EventListener, { signal })
    on(window, 'online', resume)
    on(window, 'offline', () => state !== 'denied' && stop('offline'))
    on(window, 'pagehide', suspend)
    on(window, 'pageshow', ({ persisted }) => persisted && resume())
    on(document, 'visibilitychange', wake)
    on(document, 'freeze', suspend)
    on(document, 'resume', resume)
  }

  const client: Client = {
    url: at,
    get state() {
      return state
    },
    get error() {
      return denial
    },
    serverNow: () => Date.now() + clock,
    subscribe(name, handlers, since) {
      let room = rooms.get(name)
      if (!room) {
        rooms.set(name, (room = { name, handlers: new Set(), position: since && { ...since } }))
        ask(room)
      } else if (room.refused) queueMicrotask(() => room!.refused && call(handlers.onError, room!.refused))
      else if (room.on && !room.asked) queueMicrotask(() => call(handlers.onSubscribed, { ...room!.position! }))
      room.handlers.add(handlers)
      return () => {
        if (!room!.handlers.delete(handlers) || room!.handlers.size) return
        // A component that is replaced by its like leaves and comes back in one turn.
        setTimeout(() => {
          if (room!.handlers.size || rooms.get(name) !== room) return
          rooms.delete(name)
          clearTimeout(room!.timer)
          if (room!.on ?? room!.asked) current?.send({ type: 'unsubscribe', room: name })
        }, LEAVE_MS)
      }
    },
    onState(listener) {
      stateListeners.add(listener)
      return () => stateListeners.delete(listener)
    },
    onMessage(listener) {
      messageListeners.add(listener)
      return () => messageListeners.delete(listener)
    },
    send(message) {
      current?.send(message)
      return !!current
    },
    reconnect() {
      stop('recovering')
      attempt = refusals = 0
      refusedToken = denial = undefined
      listen()
      void open()
    },
    close() {
      ears?.abort()
      ears = undefined
      stop('closed')
    },
  }
  listen()
  void open()
  return client
}
