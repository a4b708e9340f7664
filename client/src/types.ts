// What the client's callers see, and the wire's messages (docs/protocol.md).

/**
 * - `connecting`: the first attempt; `live`: events arrive; `recovering`: the socket was lost and another is being opened;
 * - `offline`: the browser has no network, nothing is tried; `denied`: no token that the server takes can be had: `reconnect()`
 *   after a login leaves it; `closed`: `close()` was called.
 */
export type ConnectionState = 'connecting' | 'live' | 'recovering' | 'offline' | 'denied' | 'closed'

/** Where a page is in a room: offsets count 1, 2, 3 … within an epoch. */
export interface Position {
  epoch: string
  offset: number
}

/** An event as it was published: its `data`, flat, with what the server adds. */
export interface RoomEvent {
  type: string
  room: string
  offset: number
  /** ms since 1970, the server's clock */
  timestamp: number
  id?: string
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  [field: string]: any
}

/** Events of a room are lost for this page: fetch the room's state; what comes after this call is newer. */
export interface Gap {
  room: string
  epoch: string
  offset: number
  /** `trimmed` `reset` `invalid`, or `position` where a position could not be resumed */
  reason: string
}

/** The server refused something, or closed the socket for good. */
export interface RoomsError {
  /** of docs/protocol.md, or `denied` */
  code: string
  message: string
  room?: string
  retryable: boolean
}

export interface RoomHandlers {
  onEvent?(event: RoomEvent): void
  onGap?(gap: Gap): void
  /** Joined, or joined again: everything until `position` has been given to onEvent, or onGap told of it. */
  onSubscribed?(position: Position): void
  /** `forbidden` and `limit` are final until the next token; what is retryable is tried again by itself. */
  onError?(error: RoomsError): void
}

export interface ClientOptions {
  /**
   * Awaited before every new socket and before the token ends. Rejecting means that there is no token: the state is `denied`.
   * A rejection with a TypeError, as fetch has it for a network that fails, or with `retryable: true`, is tried again.
   */
  getToken?(): Promise<string> | string
  /** Where the token travels: as a subprotocol (default), or as `?token=` for what removes subprotocols on the way. */
  tokenIn?: 'protocol' | 'query'
  /**
   * One socket for all tabs (default: true where the browser has Web Locks and BroadcastChannel). Tabs share where the URL and
   * all claims of their tokens, but the times and `jti`, are the same; a token that is no JWT is never shared.
   */
  share?: boolean
}

export interface Client {
  readonly url: string
  readonly state: ConnectionState
  /** Why the state is `denied`. */
  readonly error: RoomsError | undefined
  /** ms since 1970 by the server's clock, to within half a round trip. */
  serverNow(): number
  /** Joins a room, once however many callers; returns what leaves it. `since`: a position kept from before. */
  subscribe(room: string, handlers: RoomHandlers, since?: Position): () => void
  /** Every change of state. Returns what ends it. */
  onState(listener: (state: ConnectionState) => void): () => void
  /** Every message of the server, answers too, as it comes. Returns what ends it. */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  onMessage(listener: (message: any) => void): () => void
  /** Sends a message of one's own; false while there is no socket. */
  send(message: object): boolean
  /** A new socket with a new token, now: after a login, or out of impatience. Leaves `denied` and `closed`. */
  reconnect(): void
  /** Logout: the socket is closed, nothing is tried any more. Rooms and listeners stay for a reconnect(). */
  close(): void
}
