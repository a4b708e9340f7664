// The backend's REST endpoints, and who this tab is logged in as.
import type { Session } from './session.js'

export interface User {
  id: string
  name: string
  tenant: string
}

const KEY = 'rooms-demo-user'
let userId = sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY) ?? ''

/** A tab keeps its user; new tabs begin with the last one. */
export function logIn(id: string): void {
  userId = id
  sessionStorage.setItem(KEY, id)
  localStorage.setItem(KEY, id)
}
export function logOut(): void {
  userId = ''
  sessionStorage.removeItem(KEY)
  localStorage.removeItem(KEY)
}
export const loggedIn = (): string => userId

export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    /** What the rooms client asks of a getToken that failed. */
    readonly retryable: boolean,
  ) {
    super(message)
  }
}

async function call<T>(path: string, body?: unknown): Promise<T> {
  const response = await fetch(`/api/${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { 'X-Demo-User': userId, 'Content-Type': 'application/json' },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  })
  const answer = await response.json().catch(() => ({}))
  if (response.ok) return answer
  throw new ApiError(answer.error ?? `HTTP ${response.status}`, response.status, response.status >= 500)
}

const of = (id: string) => encodeURIComponent(id)
export const users = () => call<User[]>('users')
export const sessions = () => call<{ id: string; state: string }[]>('sessions')
export const session = (id: string) => call<Session>(`sessions/${of(id)}`)
export const say = (id: string, content: string) => call(`sessions/${of(id)}/messages`, { content })
export const decide = (id: string, status: 'approved' | 'rejected') => call(`approvals/${of(id)}`, { status })
export const getToken = async (): Promise<string> => (await call<{ token: string }>('token')).token
