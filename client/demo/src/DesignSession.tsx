// One design session: loaded once, then kept up to date by its room alone.
import { useCallback, useEffect, useRef, useState, type ReactElement } from 'react'
import type { RoomEvent } from 'rooms-client'
import { useServerNow, useSessionWebSocket } from 'rooms-client/react'
import * as api from './api.js'
import { apply, type Approval, type Message, type Session, type Spec, type Ticket } from './session.js'

/** The session, or why there is none. */
function useSession(id: string): { session?: Session; failure: string } {
  const [session, setSession] = useState<Session>()
  const [failure, setFailure] = useState('')
  // What comes while the state is on its way is applied to it afterwards: it may be older. Of two loads the later one counts.
  const early = useRef<RoomEvent[]>([])
  const loads = useRef({ begun: 0, done: 0 })
  const load = useCallback(() => {
    const mine = ++loads.current.begun
    early.current = []
    api.session(id).then(
      (loaded) => {
        if (mine !== loads.current.begun) return
        loads.current.done = mine
        setSession(early.current.splice(0).reduce(apply, loaded))
        setFailure('')
      },
      (error: Error) => {
        if (mine === loads.current.begun) setFailure(error.message)
      },
    )
  }, [id])
  useSessionWebSocket(id, {
    // Loaded from the moment when the room has been joined: nothing falls between the two. A load that failed is tried again then.
    onSubscribed() {
      if (!loads.current.done) load()
    },
    onGap: load,
    onMessage(event) {
      if (loads.current.begun > loads.current.done) early.current.push(event)
      setSession((now) => now && apply(now, event))
    },
    onError: (error) => setFailure(error.message),
  })
  return { session, failure }
}

export function DesignSession({ id }: { id: string }): ReactElement {
  const { session, failure } = useSession(id)
  if (!session) return failure ? <p className="notice" role="alert">{failure}</p> : <p className="notice">Loading…</p>
  return (
    <main className="session">
      {failure && <p className="notice" role="alert">{failure}</p>}
      <Conversation id={id} messages={session.messages} />
      <aside>
        <Progress session={session} />
        <Approvals approvals={session.approvals} />
        <SpecCard spec={session.spec} confidence={session.confidence} />
        <Tickets tickets={session.tickets} />
      </aside>
    </main>
  )
}

function Conversation({ id, messages }: { id: string; messages: Message[] }): ReactElement {
  const [text, setText] = useState('')
  const [failure, setFailure] = useState('')
  const end = useRef<HTMLLIElement>(null)
  useEffect(() => {
    end.current?.scrollIntoView({ block: 'nearest' })
  }, [messages.length])
  const send = () => {
    if (!text.trim()) return
    api.say(id, text).then(
      () => {
        setText('')
        setFailure('')
      },
      (error: Error) => setFailure(error.message),
    )
  }
  return (
    <section className="card conversation" aria-label="Conversation">
      <ol aria-live="polite">
        {messages.length === 0 && <li className="empty">Say what you would like to have built.</li>}
        {messages.map((message) => (
          <li key={message.id} className={message.role === 'user' ? 'mine' : 'theirs'}>
            <span className="who">{message.role === 'user' ? 'You' : 'Agent'}</span>
            <p>{message.content}</p>
          </li>
        ))}
        <li ref={end} aria-hidden="true" className="end" />
      </ol>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          send()
        }}
      >
        <label className="hidden" htmlFor="say">
          Message
        </label>
        <textarea
          id="say"
          rows={2}
          value={text}
          placeholder="A checkout that remembers the cart…"
          onChange={(event) => setText(event.target.value)}
          onKeyDown={(event) => {
            if (event.key !== 'Enter' || event.shiftKey || event.nativeEvent.isComposing) return
            event.preventDefault()
            send()
          }}
        />
        <button className="primary" disabled={!text.trim()}>
          Send
        </button>
      </form>
      {failure && <p role="alert">{failure}</p>}
    </section>
  )
}

function Progress({ session }: { session: Session }): ReactElement {
  return (
    <section className="card" aria-label="Progress">
      <h2>
        Progress <span className={`badge ${session.state}`}>{session.state}</span>
      </h2>
      <progress max={100} value={session.progress} aria-label="Progress" />
      <p className="faint">
        {session.progress} %{session.task && session.progress < 100 && ` · ${session.task}`}
      </p>
    </section>
  )
}

function SpecCard({ spec, confidence }: { spec?: Spec | null; confidence?: number }): ReactElement | null {
  if (!spec) return null
  return (
    <section className="card" aria-label="Spec">
      <h2>
        Spec {confidence !== undefined && <span className="badge">{Math.round(confidence * 100)} % sure</span>}
      </h2>
      <h3>{spec.title}</h3>
      <p>{spec.summary}</p>
      <ul className="points">{spec.points?.map((point) => <li key={point}>{point}</li>)}</ul>
    </section>
  )
}

function Tickets({ tickets }: { tickets: Ticket[] }): ReactElement | null {
  if (!tickets.length) return null
  return (
    <section className="card" aria-label="Tickets">
      <h2>
        Tickets <span className="badge">{tickets.length}</span>
      </h2>
      <ul className="rows">
        {tickets.map((ticket) => (
          <li key={ticket.id}>
            <span>{ticket.title ?? ticket.id}</span>
            <span className="faint">
              {ticket.estimate} {ticket.state}
            </span>
          </li>
        ))}
      </ul>
    </section>
  )
}

function Approvals({ approvals }: { approvals: Approval[] }): ReactElement | null {
  if (!approvals.length) return null
  // What waits for a person comes first.
  const sorted = [...approvals].sort((a, b) => Number(b.status === 'pending') - Number(a.status === 'pending') || (b.expiresAt ?? 0) - (a.expiresAt ?? 0))
  return (
    <section className="card" aria-label="Approvals">
      <h2>Approvals</h2>
      <ul className="approvals">
        {sorted.map((approval) => (
          <ApprovalCard key={approval.approvalId} approval={approval} />
        ))}
      </ul>
    </section>
  )
}

const OUTCOME: Record<string, string> = { approved: 'Approved', rejected: 'Rejected', timeout: 'Timed out', cancelled: 'Cancelled' }

function ApprovalCard({ approval }: { approval: Approval }): ReactElement {
  const [failure, setFailure] = useState('')
  const decide = (status: 'approved' | 'rejected') => {
    api.decide(approval.approvalId, status).catch((error: Error) => setFailure(error.message))
  }
  const pending = approval.status === 'pending'
  return (
    <li className={`approval ${approval.status}`} data-id={approval.approvalId}>
      <div className="line">
        <b>{approval.action}</b>
        {pending ? approval.expiresAt && <Countdown until={approval.expiresAt} /> : <span className="badge">{OUTCOME[approval.status] ?? approval.status}</span>}
      </div>
      {pending ? (
        <div className="buttons">
          <button className="primary" onClick={() => decide('approved')}>
            Approve
          </button>
          <button onClick={() => decide('rejected')}>Reject</button>
        </div>
      ) : (
        <p className="faint">{approval.resolvedBy ? `by ${approval.resolvedBy}` : 'nobody decided'}</p>
      )}
      {failure && <p role="alert">{failure}</p>}
    </li>
  )
}

/** On the server's clock, whatever this machine's says. The end itself is an event: nothing is decided here. */
function Countdown({ until }: { until: number }): ReactElement {
  const now = useServerNow()
  const [left, setLeft] = useState(() => until - now())
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>
    const tick = () => {
      const rest = until - now()
      setLeft(rest)
      // The next change of the digits.
      if (rest > 0) timer = setTimeout(tick, (rest % 1000) + 5)
    }
    tick()
    return () => clearTimeout(timer)
  }, [until, now])
  const seconds = Math.max(0, Math.ceil(left / 1000))
  const text = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
  return (
    <time className={`countdown${seconds <= 10 ? ' soon' : ''}`} dateTime={`PT${seconds}S`} aria-label={`${seconds} seconds left`}>
      {text}
    </time>
  )
}
