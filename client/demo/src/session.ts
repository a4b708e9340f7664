// A design session as the page has it. Every event says what is now, so that one which the loaded state has already does no harm.
import type { RoomEvent } from 'rooms-client'

export interface Message {
  id: string
  role: string
  content: string
  createdAt?: number
}
export interface Ticket {
  id: string
  title: string
  estimate?: string
  state?: string
}
export interface Approval {
  approvalId: string
  action: string
  context?: Record<string, unknown>
  status: string
  resolvedBy?: string | null
  expiresAt?: number
}
export interface Spec {
  title?: string
  summary?: string
  points?: string[]
}
export interface Session {
  id: string
  state: string
  progress: number
  task?: string
  spec?: Spec | null
  confidence?: number
  messages: Message[]
  tickets: Ticket[]
  approvals: Approval[]
}

function put<T>(list: T[], key: keyof T, item: Partial<T>): T[] {
  const at = list.findIndex((one) => one[key] === item[key])
  return at < 0 ? [...list, item as T] : list.map((one, n) => (n === at ? { ...one, ...item } : one))
}
const known = <T extends object>(fields: T): T => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as T

export function apply(session: Session, event: RoomEvent): Session {
  switch (event.type) {
    case 'session:update':
      return { ...session, ...known({ state: event.state, progress: event.progress }) }
    case 'build:progress':
      return { ...session, progress: event.percent ?? session.progress, task: event.currentTask }
    case 'session:message': {
      const message = typeof event.message === 'object' && event.message ? event.message : { content: event.message ?? event.content }
      return {
        ...session,
        messages: put(session.messages, 'id', {
          role: event.role ?? 'assistant',
          createdAt: event.timestamp,
          ...message,
          id: message.id ?? event.messageId ?? event.id ?? `offset ${event.offset}`,
        }),
      }
    }
    case 'spec:generated':
      return { ...session, spec: event.spec, confidence: event.confidence }
    case 'tickets:generated':
      return { ...session, tickets: (event.tickets as Ticket[]).reduce((list, ticket) => put(list, 'id', ticket), session.tickets) }
    case 'ticket:update':
      return { ...session, tickets: put(session.tickets, 'id', known({ id: event.ticketId, state: event.state, title: event.title })) }
    case 'approval:requested':
    case 'approval:extended': {
      const { approvalId, action, context, expiresAt } = event
      const before = session.approvals.find((one) => one.approvalId === approvalId)
      return { ...session, approvals: put(session.approvals, 'approvalId', known({ approvalId, action, context, expiresAt, status: before?.status ?? 'pending' })) }
    }
    case 'approval:resolved': {
      const { approvalId, action, status, resolvedBy } = event
      return { ...session, approvals: put(session.approvals, 'approvalId', known({ approvalId, action, status, resolvedBy })) }
    }
    default:
      return session
  }
}
