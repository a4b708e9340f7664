// The Node server that such shops have: ws, node:http, a JWT at the upgrade, rooms in a Map, and Redis between
// processes. Written for speed where ws and ioredis offer it: events are encoded once, commands to Redis pipelined.
//
//   node server.mjs PORT SECRET_FILE [REDIS_PORT]     on 127.0.0.1; says "ready" once it listens
//
// DEFLATE=1: permessage-deflate. TLS_CERT and TLS_KEY, two PEM files: https, and publications on PLAIN_PORT.
import { createSecretKey } from 'node:crypto'
import { readFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import { Redis } from 'ioredis'
import jwt from 'jsonwebtoken'
import { WebSocketServer } from 'ws'

const [port, secretFile, redisPort] = process.argv.slice(2)
const { DEFLATE, TLS_CERT, TLS_KEY, PLAIN_PORT } = process.env
const secret = createSecretKey(readFileSync(secretFile, 'utf8').replace(/\n$/, ''), 'utf8')

const PROTOCOL = 'rooms.v1'
const BEARER = 'rooms.bearer.'
const KIND = 'session:'
const HEARTBEAT = 30_000
const AS_TEXT = { binary: false }

// --- rooms --------------------------------------------------------------------------------------

const rooms = new Map() // room → { members: Set of sockets, ready: a promise, once Redis sends us its events }

const redis = redisPort && new Redis(Number(redisPort), '127.0.0.1', { enableAutoPipelining: true })
// Redis wants another one for SUBSCRIBE, which may come before the INFO of a ready check.
const subscriber = redisPort && new Redis(Number(redisPort), '127.0.0.1', { enableReadyCheck: false })
subscriber?.on('messageBuffer', (room, event) => fanOut(room.toString(), event))

function join(room, socket) {
  let entry = rooms.get(room)
  if (!entry) rooms.set(room, (entry = { members: new Set(), ready: subscriber?.subscribe(room) }))
  entry.members.add(socket)
  socket.rooms.add(room)
  return entry.ready
}

function leaveAll(socket) {
  for (const room of socket.rooms) {
    const { members } = rooms.get(room)
    members.delete(socket)
    if (members.size > 0) continue
    rooms.delete(room)
    subscriber?.unsubscribe(room)
  }
}

function fanOut(room, event) {
  for (const socket of rooms.get(room)?.members ?? []) socket.send(event, AS_TEXT)
}

// --- sockets ------------------------------------------------------------------------------------

const sockets = new WebSocketServer({
  noServer: true,
  handleProtocols: (offered) => offered.has(PROTOCOL) && PROTOCOL,
  perMessageDeflate: DEFLATE === '1' && {
    threshold: 0,
    serverNoContextTakeover: true,
    clientNoContextTakeover: true,
  },
})

function claimsOf(request) {
  const offers = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((offer) => offer.trim())
  const token = offers.find((offer) => offer.startsWith(BEARER))?.slice(BEARER.length)
  try {
    const claims = jwt.verify(token, secret, { algorithms: ['HS256'] })
    return Number.isFinite(claims.exp) ? claims : null
  } catch {
    return null
  }
}

function refuse(socket, status) {
  socket.on('error', () => socket.destroy())
  socket.end(`HTTP/1.1 ${status} ${http.STATUS_CODES[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
}

function onUpgrade(request, socket, head) {
  if (request.url.split('?', 1)[0] !== '/ws') return refuse(socket, 404)
  const claims = claimsOf(request)
  if (!claims) return refuse(socket, 401)
  sockets.handleUpgrade(request, socket, head, (opened) => welcome(opened, claims))
}

function welcome(socket, claims) {
  const sessions = Array.isArray(claims.sessions) ? claims.sessions : []
  socket.rooms = new Set()
  socket.alive = true
  socket.on('pong', () => (socket.alive = true))
  socket.on('error', () => socket.terminate())
  socket.on('close', () => leaveAll(socket))
  socket.on('message', (text) => onMessage(socket, sessions, text))
  socket.send('{"type":"connected"}')
}

async function onMessage(socket, sessions, text) {
  const { type, room } = parse(text) ?? {}
  if (type !== 'subscribe' || typeof room !== 'string') return socket.send('{"type":"error","code":"bad_message"}')
  const allowed = room.startsWith(KIND) && (sessions[0] === '*' || sessions.includes(room.slice(KIND.length)))
  if (!allowed) return socket.send(JSON.stringify({ type: 'error', code: 'forbidden', room }))
  await join(room, socket)
  socket.send(JSON.stringify({ type: 'subscribed', room }))
}

setInterval(() => {
  for (const socket of sockets.clients) {
    if (!socket.alive) socket.terminate()
    socket.alive = false
    socket.ping()
  }
}, HEARTBEAT)

// --- publishing ---------------------------------------------------------------------------------

function parse(text) {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

// How many members the room has here; with Redis once that has the event.
async function publish({ room, type, data }) {
  const sessionId = room.slice(KIND.length)
  const event = Buffer.from(JSON.stringify({ type, sessionId, ...data, timestamp: Date.now() }))
  const subscribers = rooms.get(room)?.members.size ?? 0
  if (redis) await redis.publish(room, event)
  else fanOut(room, event)
  return subscribers
}

async function publishAll(body) {
  const publications = [parse(body)].flat() // one, or a batch
  if (!publications.every((one) => typeof one?.room === 'string')) return [400, { error: 'no publication' }]
  const counts = await Promise.all(publications.map(publish))
  return [200, { subscribers: counts.reduce((sum, count) => sum + count, 0) }]
}

function onRequest(request, response) {
  if (request.method !== 'POST' || request.url !== '/publish') return response.writeHead(404).end()
  const chunks = []
  request.on('data', (chunk) => chunks.push(chunk))
  request.on('end', async () => {
    const [status, answer] = await publishAll(Buffer.concat(chunks)).catch(({ message }) => [503, { error: message }])
    const text = JSON.stringify(answer)
    response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) })
    response.end(text)
  })
}

const tls = TLS_CERT && { cert: readFileSync(TLS_CERT), key: readFileSync(TLS_KEY) }
const server = tls ? https.createServer(tls, onRequest) : http.createServer(onRequest)
if (tls) http.createServer({ keepAliveTimeout: 75_000 }, onRequest).listen(Number(PLAIN_PORT), '127.0.0.1')
server.keepAliveTimeout = 75_000 // nginx's
server.on('upgrade', onUpgrade)
server.listen({ port: Number(port), host: '127.0.0.1', backlog: 4096 }, () => console.log('ready'))
