// React 18 and 19: one socket per URL for all components, opened when the first of them mounts and closed when the last has
// gone. Handlers are called for each event, by the client itself: no rendering can drop one.
import {
  createContext,
  createElement,
  useContext,
  useEffect,
  useInsertionEffect,
  useMemo,
  useRef,
  useState,
  useSyncExternalStore,
  type ReactElement,
  type ReactNode,
} from 'react'
import { createClient, type Client, type ClientOptions, type ConnectionState, type Gap, type Position, type RoomEvent, type RoomHandlers, type RoomsError } from 'rooms-client'

/** Where the socket is and who opens it; without a url: `/ws` on the page's host. */
export interface RoomsConfig extends ClientOptions {
  url?: string
}

export const WS_STATE = {
  CONNECTING: 'connecting',
  CONNECTED: 'connected',
  RECONNECTING: 'reconnecting',
  DISCONNECTED: 'disconnected',
  ERROR: 'error',
} as const
export type WsState = (typeof WS_STATE)[keyof typeof WS_STATE]

/** What a state is for hooks, in words, and in colour. */
const SHOWN: Record<ConnectionState, [WsState, string, string]> = {
  connecting: ['connecting', 'Connecting…', '#d70'],
  live: ['connected', 'Live', '#1a4'],
  recovering: ['reconnecting', 'Reconnecting…', '#d70'],
  offline: ['disconnected', 'Offline', '#d22'],
  closed: ['disconnected', 'Offline', '#d22'],
  denied: ['error', 'Signed out', '#d22'],
}

// --- one client per URL

class Store {
  declare client?: Client
  declare timer?: ReturnType<typeof setTimeout>
  declare config?: RoomsConfig
  users = 0

  constructor(readonly url: string) {}

  open = (): Client =>
    (this.client ??= createClient(this.url, {
      ...this.config,
      // The newest one, of whichever component brought it.
      getToken: () => this.config?.getToken?.() as string,
    }))

  /** Opens the client, if nobody has; it stays open as long as somebody listens. */
  listen = (changed: () => void): (() => void) => {
    clearTimeout(this.timer)
    this.users++
    const deaf = this.open().onState(changed)
    return () => {
      deaf()
      if (--this.users) return
      // What is replaced by its like keeps the socket, and what is gone has none: who logs in next gets his own.
      this.timer = setTimeout(() => {
        this.client?.close()
        delete this.client
      })
    }
  }

  state = (): ConnectionState => this.client?.state ?? 'connecting'
  now = (): number => this.client?.serverNow() ?? Date.now()
}

const stores: Record<string, Store> = {}
const configured: RoomsConfig = {}
const Context = createContext(configured)

/** For pages without a RoomsProvider; call it before the first hook runs. */
export function configure(config: RoomsConfig): void {
  Object.assign(configured, config)
}

export function RoomsProvider({ children, ...config }: RoomsConfig & { children?: ReactNode }): ReactElement {
  return createElement(Context.Provider, { value: config }, children)
}

function useStore(own?: RoomsConfig): Store {
  const around = useContext(Context)
  const config = own ?? around
  const { url = '/ws' } = config
  const store = (stores[url] ??= new Store(url))
  if (config.getToken) store.config = config
  return store
}

const nobody = () => () => {}
const closed = (): ConnectionState => 'closed'

/** An enabled one keeps the client open. */
function useStateOf(store: Store, enabled = true): ConnectionState {
  const now = enabled ? store.state : closed
  return useSyncExternalStore(enabled ? store.listen : nobody, now, now)
}

// --- hooks

export type Handler = (event: RoomEvent) => void
/** By event type, and these besides. */
export interface Handlers {
  /** Every event. */
  onMessage?: Handler
  /** Events were lost for this page: fetch the state anew. */
  onGap?: (gap: Gap) => void
  /** The room is joined, or joined again: what happens from now on comes. The moment to load its state for the first time. */
  onSubscribed?: (position: Position) => void
  onConnect?: () => void
  onDisconnect?: () => void
  onError?: (error: RoomsError) => void
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  [type: string]: ((argument: any) => void) | undefined
}

export interface UseWebSocketOptions {
  /** `kind:id`; none: nothing is joined but by subscribe(). */
  room?: string | null
  handlers?: Handlers
  /** false: no socket on this component's account. */
  enabled?: boolean
  /** Instead of the RoomsProvider's. */
  config?: RoomsConfig
}

export interface WebSocketHook {
  state: WsState
  connectionState: ConnectionState
  isConnected: boolean
  lastMessage: RoomEvent | null
  /** false while there is no socket */
  send(message: object): boolean
  /** Further rooms, with the same handlers, until unsubscribe() or the end of the component. */
  subscribe(room: string): void
  unsubscribe(room: string): void
  reconnect(): void
}

export function useWebSocket({ room, handlers = {}, enabled = true, config }: UseWebSocketOptions = {}): WebSocketHook {
  const store = useStore(config)
  const connectionState = useStateOf(store, enabled)
  const [lastMessage, setLastMessage] = useState<RoomEvent | null>(null)
  // The newest handlers, without joining anew for them.
  const newest = useRef(handlers)
  useInsertionEffect(() => {
    newest.current = handlers
  })
  const joined = useMemo(() => new Map<string, () => void>(), [store, enabled])

  const [listeners] = useState<RoomHandlers>(() => {
    const tell = (name: string) => (argument: unknown) => newest.current[name]?.(argument)
    return {
      onEvent(event) {
        setLastMessage(event)
        tell(event.type)(event)
        tell('onMessage')(event)
      },
      onGap: tell('onGap'),
      onSubscribed: tell('onSubscribed'),
      onError: tell('onError'),
    }
  })

  const live = connectionState === 'live'
  useEffect(() => {
    if (connectionState === 'denied') newest.current.onError?.(store.client!.error!)
    if (!live) return
    newest.current.onConnect?.()
    return () => newest.current.onDisconnect?.()
  }, [connectionState])
  useEffect(
    () => () => {
      for (const leave of joined.values()) leave()
      joined.clear()
    },
    [joined],
  )
  useEffect(() => {
    if (!enabled || !room) return
    return store.client!.subscribe(room, { ...listeners })
  }, [store, enabled, room])

  return {
    state: SHOWN[connectionState][0],
    connectionState,
    isConnected: live,
    lastMessage,
    ...useMemo(
      () => ({
        send: (message: object) => store.client?.send(message) ?? false,
        subscribe(other: string) {
          if (enabled && !joined.has(other)) joined.set(other, store.open().subscribe(other, { ...listeners }))
        },
        unsubscribe(other: string) {
          joined.get(other)?.()
          joined.delete(other)
        },
        reconnect: () => store.client?.reconnect(),
      }),
      [store, enabled],
    ),
  }
}

const SESSION = {
  'session:update': 'onSessionUpdate',
  'session:message': 'onNewMessage',
  'spec:generated': 'onSpecGenerated',
  'tickets:generated': 'onTicketsGenerated',
  'approval:requested': 'onApprovalNeeded',
  'approval:resolved': 'onApprovalResolved',
  'build:progress': 'onBuildProgress',
} as const

export interface SessionHandlers extends Handlers {
  onSessionUpdate?: Handler
  onNewMessage?: Handler
  onSpecGenerated?: Handler
  onTicketsGenerated?: Handler
  onApprovalNeeded?: Handler
  /** Every end of an approval. */
  onApprovalResolved?: Handler
  /** Besides, where nobody decided in time. */
  onApprovalTimeout?: Handler
  onBuildProgress?: Handler
}

/** The room `session:ID` with a handler for each event of a design session. */
export function useSessionWebSocket(
  sessionId: string | number | null | undefined,
  handlers: SessionHandlers = {},
  enabled = true,
): WebSocketHook & { sessionId: string | number | null | undefined } {
  const all: Handlers = { ...handlers }
  for (const [type, name] of Object.entries(SESSION)) {
    const own = handlers[type]
    all[type] = (event) => {
      own?.(event)
      handlers[name]?.(event)
      if (type === 'approval:resolved' && event.status === 'timeout') handlers.onApprovalTimeout?.(event)
    }
  }
  const socket = useWebSocket({ room: (sessionId ?? '') === '' ? null : `session:${sessionId}`, handlers: all, enabled })
  return { ...socket, sessionId }
}

/** The connection's state; the component that asks keeps the socket open. */
export function useConnectionState(): ConnectionState {
  return useStateOf(useStore())
}

/** The clock of the server, for countdowns; the page's own while there is no socket. */
export function useServerNow(): () => number {
  return useStore().now
}

/** ● Live; `data-state` and the class `rooms-status` are for the page's styles. */
export function ConnectionStatus({ className = '' }: { className?: string }): ReactElement {
  const state = useConnectionState()
  const [, text, color] = SHOWN[state]
  return createElement(
    'span',
    { className: `rooms-status ${className}`, role: 'status', 'aria-label': `Connection: ${text}`, 'data-state': state },
    createElement('span', { 'aria-hidden': true, style: { color } }, '● '),
    text,
  )
}
