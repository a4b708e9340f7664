// One socket for all tabs of a browser: the tab that holds a Web Lock leads and owns it, the others speak through a BroadcastChannel.
//
// A tab only ever leans on a leader that answers: a visible tab that hears nothing for 2 s takes the lock away and opens its own
// socket. Nothing is lost or doubled by a change of leader, whenever it comes: every tab keeps its own positions, resumes by them
// as after any lost socket, and drops what it has had. So a leader that was frozen and comes back does no harm.
import type { Events, Message, Transport } from './socket.js'

const PING_MS = 500
const DEAF_PINGS = 2
const PATIENT_MS = 10_000
/** A hidden tab's timers may run once a minute. */
const FORGET_MS = 150_000

type Packet =
  /** follower: who leads? I am here */
  | { kind: 'ping'; tab: string }
  /** leader: I am. `id` of its socket, if it has one; `began`: of two leaders the later one counts; `stranger`: this tab was forgotten */
  | { kind: 'here'; id?: string; began: number; hello?: Message; clock?: number; stranger?: string }
  /** leader: the server said */
  | { kind: 'said'; id: string; message: Message }
  | { kind: 'down'; id: string }
  /** follower: say to the server */
  | { kind: 'say'; id: string; tab: string; message: Message }
  | { kind: 'bye'; tab: string }

export interface Tabs {
  /** Whether this tab leads, once that is known. */
  leads(): Promise<boolean>
  /** Leader: opens the socket that all share. */
  lead(open: (events: Events) => Transport, events: Events): Transport
  /** Follower: calls onOpen when the leader's socket is there. */
  follow(events: Events): Transport
  /** Ends the sharing at once; the next leader takes over. */
  leave(): void
}

export const visible = (): boolean => typeof document === 'undefined' || document.visibilityState === 'visible'

/** `onLead`: from now on this tab leads, or another one does in its place. Both: open anew. */
export function joinTabs(name: string, tab: string, onLead: () => void): Tabs {
  const channel = new BroadcastChannel(name)
  const left = new AbortController()
  const { signal } = left
  /** Leader: the rooms that each tab wants, and when it was last heard. */
  const wants = new Map<string, { rooms: Set<string>; heard: number }>()
  let leading: boolean | undefined
  let began = 0
  let shared: { id: string; hello: Message; transport: Transport } | undefined
  let link: (Transport & { id?: string; began: number; events: Events }) | undefined
  /** Pings that nobody answered. */
  let deaf = 0
  let known!: () => void
  const ready = new Promise<void>((resolve) => (known = resolve))

  const post = (packet: Packet) => signal.aborted || channel.postMessage(packet)

  // --- the lock

  let queued = false
  const request = (options: LockOptions) =>
    navigator.locks
      .request(name, options, (lock) => {
        if (options.signal) queued = false
        if (signal.aborted) return
        if (!lock) {
          leading = false
          known()
          queue()
          return
        }
        const was = leading
        leading = true
        began = Date.now()
        known()
        if (was === false) onLead()
        return new Promise<void>((release) => signal.addEventListener('abort', () => release()))
      })
      .catch(() => {
        if (signal.aborted || leading === false) return
        // Locks are refused here: a socket of its own. Or another tab took it away.
        leading = !leading
        known()
        if (leading) return
        deaf = 0
        queue()
        onLead()
      })
  const queue = () => {
    if (queued) return
    queued = true
    void request({ signal })
  }
  void request({ ifAvailable: true })

  // --- the leader

  const here = (stranger?: string) => {
    // Without a socket a hidden tab waits longer than others need to, and so does one whose token or server lets it wait.
    if (!shared && (!visible() || Date.now() - began > PATIENT_MS)) return
    post({ kind: 'here', id: shared?.id, began, hello: shared?.hello, clock: shared?.transport.clock, stranger })
  }
  const say = (from: string, message: Message, transport: Transport) => {
    let of = wants.get(from)
    if (!of) wants.set(from, (of = { rooms: new Set(), heard: Date.now() }))
    if (message.type === 'subscribe') of.rooms.add(message.room)
    if (message.type === 'unsubscribe') {
      of.rooms.delete(message.room)
      if ([...wants.values()].some(({ rooms }) => rooms.has(message.room))) return
    }
    transport.send(message)
  }
  const forget = (who: string) => {
    for (const room of wants.get(who)?.rooms ?? []) if (shared) say(who, { type: 'unsubscribe', room }, shared.transport)
    wants.delete(who)
  }

  // --- the follower

  const drop = () => {
    const lost = link
    link = undefined
    lost?.events.onClose(lost, 4200, '')
  }
  const pinging = setInterval(() => {
    if (leading !== false) return
    if (visible() && deaf++ > DEAF_PINGS) {
      deaf = 0
      void request({ steal: true })
    } else post({ kind: 'ping', tab })
  }, PING_MS)

  channel.onmessage = ({ data }: MessageEvent<Packet>) => {
    if (leading) {
      if (data.kind === 'ping') {
        const now = Date.now()
        const of = wants.get(data.tab)
        if (of) of.heard = now
        for (const [who, { heard }] of wants) if (who !== tab && now - heard > FORGET_MS) forget(who)
        shared?.transport.beat!()
        here(of ? undefined : data.tab)
        if (!of) wants.set(data.tab, { rooms: new Set(), heard: now })
      } else if (data.kind === 'say' && data.id === shared?.id) say(data.tab, data.message, shared.transport)
      else if (data.kind === 'bye') forget(data.tab)
      return
    }
    if (data.kind === 'here') {
      if (link && data.began < link.began) return
      deaf = 0
      if (!link) return
      link.began = data.began
      link.clock = data.clock ?? 0
      if (link.id && (link.id !== data.id || data.stranger === tab)) drop()
      else if (!link.id && data.id) {
        link.id = data.id
        link.events.onOpen(link, data.hello)
      }
    } else if (link?.id && 'id' in data && data.id === link.id) {
      if (data.kind === 'said') {
        deaf = 0
        link.events.onMessage(link, data.message)
      } else if (data.kind === 'down') drop()
    }
  }

  return {
    leads: () => ready.then(() => leading!),
    lead(open, events) {
      const id = tab + Date.now().toString(36) + Math.random()
      const gone = () => {
        if (shared?.id === id) shared = undefined
        post({ kind: 'down', id })
      }
      const inner = open({
        onOpen(transport, hello) {
          shared = { id, hello, transport }
          for (const { rooms } of wants.values()) rooms.clear()
          here()
          events.onOpen(outer, hello)
        },
        onMessage(_, message) {
          // The rest is between the server and who has the socket.
          if (message.room || message.type === 'auth:ok') post({ kind: 'said', id, message })
          events.onMessage(outer, message)
        },
        onClose(_, code, reason) {
          gone()
          events.onClose(outer, code, reason)
        },
      })
      const outer: Transport = {
        get clock() {
          return inner.clock
        },
        send: (message) => say(tab, message, inner),
        probe: inner.probe,
        close() {
          inner.close()
          gone()
        },
      }
      return outer
    },
    follow(events) {
      const mine = (link = {
        clock: 0,
        began: 0,
        events,
        send(message) {
          if (this.id) post({ kind: 'say', id: this.id, tab, message })
        },
        probe: () => post({ kind: 'ping', tab }),
        close() {
          if (link === mine) link = undefined
        },
      } as NonNullable<typeof link>)
      post({ kind: 'ping', tab })
      return mine
    },
    leave() {
      post({ kind: 'bye', tab })
      clearInterval(pinging)
      channel.close()
      left.abort()
    },
  }
}
