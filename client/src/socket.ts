// One WebSocket: pings it, gives it up when nothing answers, and spaces what is sent, so that a page of many rooms stays within
// rooms_rate. It knows no rooms.

/** What the client speaks through: a WebSocket of its own, or another tab's. */
export interface Transport {
  /** ms to add to Date.now() for the server's time */
  clock: number
  send(message: object): void
  /** Whether anything answers: if not within 3 s, the transport is closed. */
  probe(): void
  /** Timers of a hidden page are rare: whoever needs the transport beats for it. */
  beat?(): void
  /** Nothing is called afterwards. */
  close(): void
}

export interface Events {
  onOpen(transport: Transport, hello: Message): void
  onMessage(transport: Transport, message: Message): void
  /** Once, with the close code; 1006 where there was none. */
  onClose(transport: Transport, code: number, reason: string): void
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type Message = any

const OPEN_MS = 10_000
const PONG_MS = 5_000
const PROBE_MS = 3_000
const ASLEEP_MS = 5_000
/** rooms_rate is 60/10s unless set otherwise; a server that says `rate` gets less at once from then on. */
let burst = 40
const PACE_MS = 200

/** Throws what `new WebSocket` throws: a URL or a subprotocol that is none. */
export function openSocket(url: string, token: string | undefined, tokenIn: string | undefined, events: Events): Transport {
  const inQuery = tokenIn === 'query' && token
  const at = inQuery ? url + (url.includes('?') ? '&' : '?') + 'token=' + encodeURIComponent(token) : url
  const socket = new WebSocket(at, token && !inQuery ? ['rooms.v1', 'rooms.bearer.' + token] : ['rooms.v1'])
  const waiting: string[] = []
  let open = false
  let budget = burst
  let heartbeat = 30_000
  let heard = Date.now()
  let ticked = heard
  let deadline = heard + OPEN_MS
  let pinged = 0
  let trip = Infinity

  const close = () => {
    clearInterval(ticking)
    socket.onmessage = socket.onclose = null
    socket.close()
  }
  const end = (code: number, reason: string) => {
    close()
    events.onClose(transport, code, reason)
  }
  const ping = (within: number) => {
    if (!open || deadline) return
    pinged = Date.now()
    deadline = pinged + within
    socket.send('{"type":"ping"}')
  }
  const flush = () => {
    while (open && budget > 0 && waiting.length) {
      budget--
      socket.send(waiting.shift()!)
    }
  }
  const beat = () => {
    const now = Date.now()
    budget = Math.min(burst, budget + (now - ticked) / PACE_MS)
    flush()
    if (now - ticked > ASLEEP_MS) {
      // The machine or the tab slept: a deadline of before means nothing.
      heard = now
      deadline = open ? 0 : now + OPEN_MS
      ping(PROBE_MS)
    } else if (deadline && now > deadline) end(1006, 'no answer')
    else if (now - heard > heartbeat) ping(PONG_MS)
    ticked = now
  }
  const ticking = setInterval(beat, 1000)

  const transport: Transport = {
    clock: 0,
    send(message) {
      waiting.push(JSON.stringify(message))
      flush()
    },
    probe: () => ping(PROBE_MS),
    beat,
    close,
  }
  socket.onmessage = ({ data }) => {
    let message: Message
    try {
      message = JSON.parse(data)
    } catch {
      return
    }
    heard = Date.now()
    deadline = 0
    if (message.code === 'rate') burst = Math.max(5, burst / 2)
    // Of all round trips the shortest tells the time best.
    if (message.type === 'pong' && heard - pinged <= trip) {
      trip = heard - pinged
      transport.clock = message.timestamp + trip / 2 - heard
    }
    if (message.type === 'connected' && !open) {
      open = true
      heartbeat = message.heartbeat || heartbeat
      transport.clock = message.serverTime - heard
      ping(PONG_MS)
      events.onOpen(transport, message)
      flush()
    } else events.onMessage(transport, message)
  }
  socket.onclose = ({ code, reason }) => end(code, reason)
  return transport
}
