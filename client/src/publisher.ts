// For backends (Node 18 or newer): what happens is POSTed to nginx's /publish. Each call is one event, or one in each of several
// rooms; it carries a key, so that a repeat after a lost answer is harmless.
//
// A call that nobody awaits never ends the process: what fails goes to onError as well.
import { randomUUID } from 'node:crypto'

export interface PublisherOptions {
  /** of `rooms_publish`, e.g. http://127.0.0.1/publish */
  url: string
  /** of `rooms_publish secret=` */
  secret?: string
  /** What could not be published, after all retries; default: one line on the console. */
  onError?(error: PublishError): void
  /** How often in all, default 5: at once, then after about 0.1, 0.2, 0.4, 0.8 s, or what Retry-After says. */
  attempts?: number
  /** ms for one attempt, default 5000 */
  timeout?: number
}

/** The server refused it, or could not be reached in all attempts. */
export class PublishError extends Error {
  override name = 'PublishError'
  constructor(
    message: string,
    /** of docs/protocol.md, or `unreachable` */
    readonly code: string,
    /** of HTTP; 0: no answer */
    readonly status: number,
    readonly rooms: string[],
    readonly type: string,
    options?: ErrorOptions,
  ) {
    super(message, options)
  }
}

export interface Published {
  room: string
  epoch: string
  offset: number
  /** members on the host that took it */
  subscribers: number
  /** it had been taken before */
  duplicate?: boolean
}

type Data = Record<string, unknown>
type Id = string | number

export interface Publisher {
  sessionUpdate(sessionId: Id, state: string, progress?: number, extra?: Data): Promise<Published>
  /** message: a text, or {id, role, content, messageType, createdAt, …} */
  sessionMessage(sessionId: Id, message: string | Data, extra?: Data): Promise<Published>
  /** data: {approvalId, action, context, expiresAt, …} */
  approvalRequested(sessionId: Id, data: Data): Promise<Published>
  approvalResolved(sessionId: Id, approvalId: Id, status: string, resolvedBy?: string | null, extra?: Data): Promise<Published>
  buildProgress(sessionId: Id, percent: number, currentTask?: string, details?: Data): Promise<Published>
  /** data: {spec, confidence, …} */
  specGenerated(sessionId: Id, data: Data): Promise<Published>
  /** data: {tickets, …}, or the tickets */
  ticketsGenerated(sessionId: Id, data: Data | unknown[]): Promise<Published>
  /** To `ticket:ID`, and where extra has projectId or sessionId to those rooms, too. */
  ticketUpdate(ticketId: Id, state: string, extra?: Data): Promise<Published[]>
  /** To `ticket:ID`, and where extra has projectId to that room. */
  ticketProgress(ticketId: Id, phase: string, message?: string, extra?: Data): Promise<Published[]>
  prCreated(ticketId: Id, prUrl: string, extra?: Data): Promise<Published[]>
  toRoom(room: string, type: string, data?: Data): Promise<Published>
  toSession(id: Id, type: string, data?: Data): Promise<Published>
  toTenant(id: Id, type: string, data?: Data): Promise<Published>
}

const FIRST_MS = 100
const LONGEST_MS = 5_000
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

export function createPublisher(options: PublisherOptions): Publisher {
  const { url, secret, attempts = 5, timeout = 5_000 } = options
  const onError = options.onError ?? ((error: PublishError) => console.error(`rooms: ${error.message}`))
  const headers: Record<string, string> = { 'Content-Type': 'application/json' }
  if (secret) headers.Authorization = `Bearer ${secret}`

  const post = async (rooms: string[], type: string, data: Data): Promise<Published[]> => {
    const refused = (message: string, code: string, status: number, cause?: unknown) =>
      new PublishError(`${type} to ${rooms.join(', ')}: ${message}`, code, status, rooms, type, { cause })
    let body: string
    try {
      // The same bytes in each attempt: another body with the same key would be another event.
      body = JSON.stringify({ ...(rooms.length > 1 ? { rooms } : { room: rooms[0] }), type, data, key: randomUUID() })
    } catch (error) {
      throw refused(`data is no JSON: ${(error as Error).message}`, 'bad_json', 0, error)
    }
    let failure: PublishError | undefined
    let wait = 0
    for (let attempt = 0; attempt < Math.max(1, attempts); attempt++) {
      if (attempt) await sleep(Math.max(wait, Math.random() * FIRST_MS * 2 ** attempt))
      wait = 0
      let response: Response
      let answer: any
      try {
        response = await fetch(url, { method: 'POST', headers, body, signal: AbortSignal.timeout(timeout) })
        answer = await response.json().catch(() => undefined)
      } catch (error) {
        const { cause, message } = error as Error & { cause?: Error }
        failure = refused(`${url} does not answer: ${cause?.message || message}`, 'unreachable', 0, error)
        continue
      }
      if (response.ok && answer) return answer.results ?? [answer]
      // With several rooms each has its own; a 200 without a whole body has been cut off on the way: it is asked for again.
      const error = answer?.error ?? answer?.results?.find((one: { error?: object }) => one.error)?.error
      failure = refused(error?.message ?? `HTTP ${response.status}`, error?.code ?? 'http', response.status)
      if (!response.ok && response.status < 500 && response.status !== 429) throw failure
      wait = Math.min(LONGEST_MS, 1000 * Number(response.headers.get('Retry-After')) || 0)
    }
    throw failure!
  }

  /** Reports, and is no unhandled rejection where nobody awaits it. */
  const send = (rooms: string[], type: string, data: Data): Promise<Published[]> => {
    const sent = post(rooms, type, data)
    sent.catch(onError).catch((error) => console.error('rooms: onError failed:', error))
    return sent
  }
  const one = (room: string, type: string, data: Data = {}): Promise<Published> => {
    const sent = send([room], type, data).then(([published]) => published!)
    sent.catch(() => {})
    return sent
  }
  const session = (id: Id, type: string, data: Data) => one(`session:${id}`, type, data)
  const around = (id: Id, extra?: Data | null) => [
    `ticket:${id}`,
    ...(extra?.projectId == null ? [] : [`project:${String(extra.projectId)}`]),
    ...(extra?.sessionId == null ? [] : [`session:${String(extra.sessionId)}`]),
  ]

  return {
    sessionUpdate: (id, state, progress, extra) => session(id, 'session:update', { ...extra, state, progress }),
    sessionMessage(id, message, extra) {
      // Old pages read the fields flat, beside `message`.
      const fields: Data = message && typeof message === 'object' ? message : { content: message }
      const { id: own, role, content, createdAt } = fields
      return session(id, 'session:message', {
        messageId: fields.messageId ?? own,
        role,
        content,
        messageType: fields.messageType ?? fields.message_type ?? 'text',
        createdAt: createdAt ?? fields.created_at,
        ...extra,
        message,
      })
    },
    approvalRequested: (id, data) => session(id, 'approval:requested', data),
    approvalResolved: (id, approvalId, status, resolvedBy = null, extra) =>
      session(id, 'approval:resolved', { ...extra, approvalId, status, resolvedBy }),
    buildProgress: (id, percent, currentTask, details) => session(id, 'build:progress', { ...details, percent, currentTask }),
    specGenerated: (id, data) => session(id, 'spec:generated', data),
    ticketsGenerated(id, data) {
      const fields: Data = Array.isArray(data) ? { tickets: data } : ((data ?? {}) as Data)
      const count = fields.count ?? fields.ticketCount ?? (fields.tickets as unknown[] | undefined)?.length
      return session(id, 'tickets:generated', { ...fields, count, ticketCount: count })
    },
    ticketUpdate: (id, state, extra) => send(around(id, extra), 'ticket:update', { ...extra, ticketId: id, state }),
    ticketProgress: (id, phase, message, extra) =>
      send(around(id, { projectId: extra?.projectId }), 'ticket:progress', { ...extra, ticketId: id, phase, message }),
    prCreated: (id, prUrl, extra) => send(around(id, extra), 'pr:created', { ...extra, ticketId: id, prUrl }),
    toRoom: one,
    toSession: (id, type, data) => one(`session:${id}`, type, data),
    toTenant: (id, type, data) => one(`tenant:${id}`, type, data),
  }
}
