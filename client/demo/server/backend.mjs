// The demo's backend: who one is, the state of a design session over REST, and a scripted agent. It stands for the application that a
// shop has already. Nobody polls it: what happens reaches the pages through nginx, from rows of rooms_outbox written in the very
// transaction that they tell of, and from /publish for what is not kept.
//
// Logging in is choosing a name: this is a demo.
import { createHmac, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import pg from 'pg'
import { createPublisher } from 'rooms-client/publisher'

const { SOCKET, SECRET_FILE, PUBLISH_URL, TOKEN_SECONDS = '300', AGENT_MS = '700', APPROVAL_SECONDS = '60' } = process.env
const USERS = {
  alice: { name: 'Alice', tenant: 'acme' },
  carol: { name: 'Carol', tenant: 'acme' },
  bob: { name: 'Bob', tenant: 'globex' },
}
const secret = readFileSync(SECRET_FILE, 'utf8').replace(/\n$/, '')
const pool = new pg.Pool({ max: 5 }) // PGHOST, PGUSER, … of the environment
pool.on('error', (error) => console.error(`postgres: ${error.message}`))
const broadcast = createPublisher({ url: PUBLISH_URL })

const sql = async (text, values) => (await pool.query(text, values)).rows
const ms = (column) => `(extract(epoch from ${column}) * 1000)::bigint::float8`

await sql(`
  create table if not exists demo_projects (id text primary key, tenant_id text not null);
  create table if not exists demo_tickets (
    id text primary key, session_id text not null references hitl_sessions (id), title text not null, estimate text, state text not null);
  insert into hitl_sessions (id, tenant_id, state, progress_percent) values ('1', 'acme', 'draft', 0), ('2', 'globex', 'draft', 0)
    on conflict do nothing;
  insert into demo_projects values ('shop', 'acme'), ('bank', 'globex') on conflict do nothing;`)

// --- tokens

const base64url = (value) => Buffer.from(value).toString('base64url')
function mint(user) {
  const now = Math.floor(Date.now() / 1000)
  const claims = { sub: user.id, tenant_id: user.tenant, iat: now, exp: now + Number(TOKEN_SECONDS) }
  const body = `${base64url('{"alg":"HS256","typ":"JWT"}')}.${base64url(JSON.stringify(claims))}`
  return `${body}.${createHmac('sha256', secret).update(body).digest('base64url')}`
}

// --- what happens: the rows and the event are one transaction

async function transaction(work) {
  const connection = await pool.connect()
  try {
    await connection.query('begin')
    const result = await work((text, values) => connection.query(text, values).then((done) => done.rows))
    await connection.query('commit')
    return result
  } catch (error) {
    await connection.query('rollback').catch(() => {})
    throw error
  } finally {
    connection.release()
  }
}
const tell = (query, session, type, data) =>
  query('insert into rooms_outbox (room, type, data) values ($1, $2, $3)', [`session:${session}`, type, JSON.stringify(data)])

function addMessage(session, role, content) {
  return transaction(async (query) => {
    const message = { id: randomUUID(), role, content, messageType: 'text', createdAt: Date.now() }
    await query('insert into hitl_messages (id, session_id, role, content, message_type) values ($1, $2, $3, $4, $5)', [
      message.id,
      session,
      role,
      content,
      'text',
    ])
    await tell(query, session, 'session:message', { message })
    return message
  })
}
function setState(session, state, progress) {
  return transaction(async (query) => {
    await query('update hitl_sessions set state = $2, progress_percent = $3 where id = $1', [session, state, progress])
    await tell(query, session, 'session:update', { state, progress })
  })
}

// --- the agent: a script

const pause = () => new Promise((resolve) => setTimeout(resolve, Number(AGENT_MS)))
const busy = new Set()
async function agent(session, request) {
  if (busy.has(session)) return
  busy.add(session)
  try {
    await setState(session, 'building', 5)
    for (const [percent, task] of [[20, 'Reading the request'], [45, 'Drafting the spec'], [60, 'Checking it against the code']]) {
      await pause()
      await broadcast.buildProgress(session, percent, task)
    }
    const spec = {
      title: request.length > 60 ? `${request.slice(0, 57)}…` : request,
      summary: 'A first cut that can be shipped behind a flag, and measured before it is switched on for all.',
      points: ['One table, one endpoint, one page', 'Old clients keep working', 'Can be undone by its flag'],
    }
    await transaction(async (query) => {
      await query('update hitl_sessions set spec_card = $2 where id = $1', [session, JSON.stringify(spec)])
      await tell(query, session, 'spec:generated', { spec, confidence: 0.86 })
    })
    await pause()
    await broadcast.buildProgress(session, 80, 'Cutting tickets')
    const tickets = ['Schema and migration', 'Endpoint with tests', 'The page'].map((title, n) => ({
      id: `${session}-${Date.now().toString(36)}-${n + 1}`,
      title,
      estimate: `${n + 1} d`,
      state: 'todo',
    }))
    await transaction(async (query) => {
      for (const { id, title, estimate, state } of tickets) {
        await query('insert into demo_tickets values ($1, $2, $3, $4, $5)', [id, session, title, estimate, state])
      }
      await tell(query, session, 'tickets:generated', { tickets, count: tickets.length })
    })
    await pause()
    await addMessage(session, 'assistant', 'The spec and its tickets are ready. Shall I deploy the first cut to staging?')
    await transaction(async (query) => {
      const id = randomUUID()
      const context = { target: 'staging', tickets: tickets.length }
      const [row] = await query(
        `insert into hitl_approvals (id, session_id, action, context, expires_at)
         values ($1, $2, 'Deploy to staging', $3, clock_timestamp() + make_interval(secs => $4))
         returning ${ms('expires_at')} as "expiresAt"`,
        [id, session, JSON.stringify(context), Number(APPROVAL_SECONDS)],
      )
      await tell(query, session, 'approval:requested', { approvalId: id, action: 'Deploy to staging', context, expiresAt: row.expiresAt })
    })
    await setState(session, 'review', 100)
  } finally {
    busy.delete(session)
  }
}

// --- REST

class Refusal extends Error {
  constructor(status, message, more) {
    super(message)
    Object.assign(this, { status, more })
  }
}

async function state(id) {
  const [[session], messages, tickets, approvals] = await Promise.all([
    sql('select id, state, progress_percent as progress, spec_card as spec from hitl_sessions where id = $1', [id]),
    sql(`select id, role, content, ${ms("created_at at time zone 'UTC'")} as "createdAt" from hitl_messages
         where session_id = $1 order by created_at, id`, [id]),
    sql('select id, title, estimate, state from demo_tickets where session_id = $1 order by id', [id]),
    sql(`select id as "approvalId", action, context, status, approved_by as "resolvedBy", ${ms('expires_at')} as "expiresAt"
         from hitl_approvals where session_id = $1 order by expires_at, id`, [id]),
  ])
  return { ...session, messages, tickets, approvals }
}

async function body(request) {
  let text = ''
  request.setEncoding('utf8')
  for await (const chunk of request) {
    text += chunk
    if (text.length > 65536) throw new Refusal(413, 'too large')
  }
  try {
    return JSON.parse(text || '{}') ?? {}
  } catch {
    throw new Refusal(400, 'the body is no JSON')
  }
}

async function answer(request) {
  const { pathname } = new URL(request.url, 'http://backend')
  if (pathname === '/api/users') return Object.entries(USERS).map(([id, user]) => ({ id, ...user }))
  const id = (request.headers['x-demo-user'] ?? '').toString()
  const user = Object.hasOwn(USERS, id) && { id, ...USERS[id] }
  if (!user) throw new Refusal(401, 'nobody is logged in')
  if (pathname === '/api/token') return { token: mint(user) }
  if (pathname === '/api/sessions') return sql('select id, state from hitl_sessions where tenant_id = $1 order by id', [user.tenant])

  const [, kind, key, part] = /^\/api\/(sessions|approvals)\/([^/]+)(?:\/(messages))?$/.exec(pathname) ?? []
  const of = kind === 'approvals' ? 'select s.id, s.tenant_id from hitl_approvals a join hitl_sessions s on s.id = a.session_id where a.id = $1'
    : kind && 'select id, tenant_id from hitl_sessions where id = $1'
  const [found] = of ? await sql(of, [decodeURIComponent(key)]) : []
  if (!found || found.tenant_id !== user.tenant) throw new Refusal(404, 'there is no such thing')

  if (kind === 'sessions' && !part && request.method === 'GET') return state(found.id)
  if (request.method !== 'POST') throw new Refusal(405, 'GET or POST')
  if (part) {
    const { content } = await body(request)
    if (typeof content !== 'string' || !content.trim() || content.length > 4000) throw new Refusal(400, '"content" has 1 to 4000 characters')
    const message = await addMessage(found.id, 'user', content.trim())
    agent(found.id, content.trim()).catch((error) => console.error(`agent: ${error.message}`))
    return message
  }
  const { status } = await body(request)
  if (status !== 'approved' && status !== 'rejected') throw new Refusal(400, '"status" is approved or rejected')
  try {
    // Plain statements: the migrations' triggers refuse what is late or second, and tell the pages.
    await sql('update hitl_approvals set status = $2, approved_by = $3 where id = $1', [decodeURIComponent(key), status, user.id])
  } catch (error) {
    if (error.code === 'RM409') throw new Refusal(409, 'somebody was faster')
    if (error.code === 'RM410') throw new Refusal(410, 'its time is over')
    throw error
  }
  return { status }
}

createServer(async (request, response) => {
  let status = 200
  let json
  try {
    json = await answer(request)
  } catch (error) {
    status = error.status ?? 500
    if (status === 500) console.error(error)
    json = { error: status === 500 ? 'the backend failed' : error.message }
  }
  response.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' })
  response.end(JSON.stringify(json))
}).listen(SOCKET)
