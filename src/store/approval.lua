-- One approval: what is done to it, and the event that tells of it, in one atomic step. Before this text
-- stands publish.lua as `local function publish(KEYS, ARGV) … end` (redis_scripts.cpp).
--
--   KEYS  the session's room: meta, stream, approval:ID, approvals
--   ARGV  1 what: "create", "resolve", "extend", "sweep"   2 SIZE, 3 TTL of the room's history
--         4 the id of the replication   5 random word   6 "1": sharded pub/sub
--         7 when to warn, in ms before the deadline: "300000 60000"   8 max= in ms
--     create:   9 action, 10 context, 11 tenant, all as JSON   12 timeout in ms, or 13 the deadline
--               14 "1": they are bounded by max=
--     resolve:  9 status   10 by whom, as JSON
--     extend:   9 by how many ms
--   With "read" all KEYS are approvals of one slot, and { JSON, status, deadline, tenant } or nil of each is
--   the answer.
--
-- Answers { outcome, changed, JSON, status, ms until it is to be swept (-1: it has ended), deadline, tenant,
-- ms late, epoch, offset, check }. The clock is read once: what it says decides and is recorded. Nobody
-- needs an id to make the events single: an approval ends once.
local kKeep = 604800000    -- of one that has ended
local kListed = 1209600000 -- after its deadline, in lists
local kVoid = 5000

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function whole(n) return string.format('%.0f', n) end

local function stored(key)
  local row = redis.call('HMGET', key, 'status', 'expires', 'warn', 'created', 'resolved', 'by', 'action', 'context', 'tenant')
  if not row[1] or row[1] == 'void' then return nil end
  local session, id = key:match('{session:(.-)}:approval:(.*)$')
  return { session = session, id = id, status = row[1], expires = tonumber(row[2]), warn = tonumber(row[3]), created = row[4],
           resolved = row[5] or 'null', by = row[6] or 'null', action = row[7], context = row[8], tenant = row[9] }
end

-- One that is overdue is shown as it will be in a moment.
local function shown(a)
  local status = a.status
  if status == 'pending' and a.expires <= now then status = 'timeout' end
  return '{"id":"' .. a.id .. '","sessionId":"' .. a.session .. '","tenantId":' .. a.tenant .. ',"action":' .. a.action ..
    ',"context":' .. a.context .. ',"status":"' .. status .. '","resolvedBy":' .. a.by .. ',"createdAt":' .. a.created ..
    ',"expiresAt":' .. whole(a.expires) .. ',"resolvedAt":' .. a.resolved .. '}', status
end

local what = ARGV[1]
if what == 'read' then
  local found = {}
  for i, key in ipairs(KEYS) do
    local a = stored(key)
    local json, status
    if a then json, status = shown(a) end
    found[i] = a and { json, status, whole(a.expires), a.tenant } or false
  end
  return found
end

local meta, stream, key, all = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local session, id = key:match('{session:(.-)}:approval:(.*)$')
-- A key that holds something else is an error before anything is written.
redis.call('ZCARD', all)
local a = stored(key)
local told

local function answer(outcome, late)
  if not a then return { outcome, 0, '', '', -1, '', '' } end
  local json, status = shown(a)
  local wait = a.status == 'pending' and math.max(0, (a.warn or a.expires) - now) or -1
  told = told or { '', '', 0, 0, '' }  -- the answer of publish
  return { outcome, told[1] == 'ok' and 1 or 0, json, status, wait, whole(a.expires), a.tenant, late or -1,
           told[2], told[3], told[5] }
end

local function tell(kind, name, fields)
  local event = '{"type":"approval:' .. kind .. '","sessionId":"' .. session .. '","approvalId":"' .. id ..
    '","action":' .. a.action .. fields .. ',"room":"session:' .. session .. '","id":"approval:' .. id .. ':' .. name .. '"'
  told = publish({ meta, stream }, { event, ARGV[2], ARGV[3], '0', '-', ARGV[4], ARGV[5], ARGV[6], time = time })
end

-- When pages are to be warned next; nil: not any more.
local function warning()
  local soonest
  for before in ARGV[7]:gmatch('%d+') do
    local at = a.expires - before
    if at > now and (not soonest or at < soonest) then soonest = at end
  end
  return soonest
end

local function list()
  redis.call('ZADD', all, whole(a.expires), id)
  redis.call('ZREMRANGEBYSCORE', all, '-inf', whole(now - kListed))
  local keep = math.max(redis.call('PTTL', all), a.expires - now + kListed, kKeep)
  redis.call('PEXPIRE', all, whole(keep))
end

local function finish(status, by)
  a.status, a.by, a.resolved, a.warn = status, by, whole(now), nil
  local late = status == 'timeout' and now - a.expires or nil
  tell('resolved', status, ',"status":"' .. status .. '","resolvedBy":' .. by .. ',"resolvedAt":' .. a.resolved ..
    ',"expiresAt":' .. whole(a.expires) .. (late and ',"lateMs":' .. whole(late) or ''))
  redis.call('HSET', key, 'status', status, 'by', by, 'resolved', a.resolved)
  redis.call('HDEL', key, 'warn')
  redis.call('PEXPIRE', key, kKeep)
  list()
  return late
end

local function set_deadline()
  a.warn = warning()
  redis.call('HSET', key, 'expires', whole(a.expires))
  if a.warn then
    redis.call('HSET', key, 'warn', whole(a.warn))
  else
    redis.call('HDEL', key, 'warn')
  end
  list()
end

if what == 'create' then
  if a then return answer('exists') end
  if redis.call('EXISTS', key) == 1 then return answer('void') end
  local deadline = tonumber(ARGV[13]) or now + tonumber(ARGV[12])
  if deadline <= now then return answer('past') end
  if ARGV[14] == '1' and deadline > now + tonumber(ARGV[8]) then return answer('too_long') end
  a = { session = session, id = id, status = 'pending', expires = deadline, created = whole(now), resolved = 'null', by = 'null',
        action = ARGV[9], context = ARGV[10], tenant = ARGV[11] }
  tell('requested', 'requested', ',"context":' .. a.context .. ',"tenantId":' .. a.tenant .. ',"expiresAt":' .. whole(deadline))
  redis.call('HSET', key, 'status', 'pending', 'created', a.created, 'action', a.action, 'context', a.context, 'tenant', a.tenant)
  set_deadline()
  return answer('created')
end

if not a then
  -- Whoever began to create it and has not done so by now must not do it any more: its place in the
  -- indexes is about to be cleared.
  if what == 'sweep' then
    redis.call('HSET', key, 'status', 'void')
    redis.call('PEXPIRE', key, kVoid)
  end
  return answer('not_found')
end
if a.status ~= 'pending' then return answer(a.status == 'timeout' and 'expired' or 'resolved') end
if now >= a.expires then return answer('expired', finish('timeout', 'null')) end

if what == 'resolve' then
  finish(ARGV[9], ARGV[10])
elseif what == 'extend' then
  if a.expires + ARGV[9] > now + ARGV[8] then return answer('too_long') end
  a.expires = a.expires + ARGV[9]
  tell('extended', 'extended:' .. whole(a.expires), ',"expiresAt":' .. whole(a.expires))
  set_deadline()
elseif a.warn and a.warn <= now then
  tell('expiring', 'expiring:' .. whole(now), ',"expiresAt":' .. whole(a.expires) .. ',"remainingMs":' .. whole(a.expires - now))
  set_deadline()
end
return answer('done')
