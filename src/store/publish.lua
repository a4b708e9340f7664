-- Publishes one event to one room: idempotency, offset, history, doorbell, in one atomic step.
-- The way in for nginx and for every other client of Redis (docs/redis.md).
--
--   EVALSHA sha 2 'rooms:{session:42}:meta' 'rooms:{session:42}:stream' EVENT [SIZE [TTL]]
--   EVALSHA sha 3 'rooms:{session:42}:meta' 'rooms:{session:42}:stream' 'rooms:{session:42}:id:ID' EVENT …
--
--   EVENT  a JSON object with a "type": what pages get, without "offset" and "timestamp"
--   ID     makes a repeat harmless for 10 minutes
--   SIZE   how many events the room keeps (128); TTL: for how long, in ms (300000)
--
-- All keys are named, so that a cluster never runs this on half of them while a slot moves.
--
-- Answers { "ok" | "duplicate" | "conflict", epoch, offset, … }. nginx itself gives more: its members of the
-- room, a fingerprint, the id of the replication that it knows, a random word, "1" where pub/sub is sharded;
-- its EVENT has been checked and lacks the closing brace.
local meta, stream, known = KEYS[1], KEYS[2], KEYS[3]
local base, event = meta:sub(1, -6), ARGV[1]
local size, ttl = ARGV[2] or '128', tonumber(ARGV[3] or 300000)
local subscribers, print, fence, word, sharded = ARGV[4] or '0', ARGV[5], ARGV[6], ARGV[7] or '', ARGV[8] == '1'

if fence == nil then
  local room = base:match('^[%w_.:-]+:{(%l[%l%d_-]*:[%w_.:@~-]+)}$')
  local id = known and known:sub(1, #base + 4) == base .. ':id:' and #known > #base + 4
  if not room or meta ~= base .. ':meta' or stream ~= base .. ':stream' or (known and not id) then
    return redis.error_reply('ROOMS the keys must be PREFIX:{kind:id}:meta, …:stream and, with an id, …:id:ID')
  end
  local good, fields = pcall(cjson.decode, event or '')
  if not good or type(fields) ~= 'table' or not event:find('^%s*{') then
    return redis.error_reply('ROOMS the event must be a JSON object')
  end
  if type(fields.type) ~= 'string' or fields.type == '' then
    return redis.error_reply('ROOMS the event must have a "type", a string')
  end
  if fields.offset ~= nil or fields.timestamp ~= nil then
    return redis.error_reply('ROOMS "offset" and "timestamp" are given by this script')
  end
  if fields.room ~= nil and fields.room ~= room then
    return redis.error_reply('ROOMS the "room" in the event is another one than in the key')
  end
  -- Without its end. Byte by byte: a pattern would try every run of spaces in it.
  local last = #event
  while event:byte(last) ~= 125 do last = last - 1 end
  repeat last = last - 1 until event:byte(last) > 32
  event = event:sub(1, last)
  local function is_whole(n, least) return n and n >= least and n <= 1e15 and n == math.floor(n) end
  size = tonumber(size)
  if not is_whole(size, 0) or not is_whole(ttl, 1) then
    return redis.error_reply('ROOMS SIZE and TTL must be whole numbers, TTL at least 1')
  end
  size = string.format('%d', size)
  local kind, id = room:match('^(.-):(.*)$')
  if fields[kind .. 'Id'] == nil then event = event .. ',"' .. kind .. 'Id":"' .. id .. '"' end
  if fields.room == nil then event = event .. ',"room":"' .. room .. '"' end
end
print = print or redis.sha1hex(event)

if known then
  local first = redis.call('GET', known)
  if first then
    local seen, epoch, offset, members, check = first:match('^(%S+) (%S+) (%d+) (%d+) (%S+)$')
    if seen ~= print then return { 'conflict', epoch, tonumber(offset) } end
    return { 'duplicate', epoch, tonumber(offset), tonumber(members), check }
  end
end

-- Lua hashes every string it makes, octet by octet, and Redis formats a number with 17 digits: what is long is
-- put together once, and numbers become text as integers (20 µs a call without, 17 with).
local time = ARGV.time or redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local room = redis.call('HMGET', meta, 'epoch', 'offset', 'secret', 'fence', 'ms', 'fresh', 'sharded')
local epoch, offset, secret = room[1], tonumber(room[2]), room[3]
local fields = {}
if not epoch then
  -- A life of the count begins. Whatever is left of an older one is not its history.
  secret = redis.sha1hex(word .. time[1] .. '.' .. time[2] .. base .. event)
  epoch, offset = redis.sha1hex(secret .. base):sub(1, 12):gsub('^0+', ''), 0
  if epoch == '' then epoch = '1' end
  redis.call('DEL', stream)
  fields = { 'epoch', epoch, 'secret', secret, 'base', 0, 'fence', fence or '' }
  if sharded then
    fields[#fields + 1] = 'sharded'
    fields[#fields + 1] = 1
  end
elseif fence and fence ~= '' and fence ~= room[4] then
  -- Another server than the one that wrote before: from this offset on it speaks for itself.
  fields = { 'fence', fence, 'before', room[4] or '', 'base', offset }
end
offset = offset + 1
now = math.max(now, tonumber(room[5]) or 0)
local count, ms = string.format('%d', offset), string.format('%d', now)
local seal = redis.sha1hex(epoch .. ' ' .. count .. ' ' .. ms .. ' ' .. event .. secret)
local check = seal:sub(1, 16)

if size ~= '0' then
  redis.call('XADD', stream, 'MAXLEN', '~', size, count .. '-0', 't', ms, 'b', event)
end
if now > (tonumber(room[6]) or 0) then
  -- Lives are prolonged now and then, not with every event.
  local keep, slack = math.max(ttl, 3600000), math.floor(math.min(ttl, 3600000) / 4)
  if size ~= '0' then redis.call('PEXPIRE', stream, string.format('%d', ttl + slack)) end
  fields[#fields + 1] = 'fresh'
  fields[#fields + 1] = string.format('%d', now + slack)
  redis.call('HSET', meta, 'offset', count, 'check', check, 'ms', ms, unpack(fields))
  redis.call('PEXPIRE', meta, string.format('%d', keep + slack))
else
  redis.call('HSET', meta, 'offset', count, 'check', check, 'ms', ms, unpack(fields))
end
if known then
  redis.call('SET', known, print .. ' ' .. epoch .. ' ' .. count .. ' ' .. subscribers .. ' ' .. check, 'PX', '600000')
end
local message = seal .. ' ' .. epoch .. ' ' .. count .. ' ' .. ms .. ' ' .. event
redis.call((room[7] or sharded) and 'SPUBLISH' or 'PUBLISH', base .. ':events', message)
return { 'ok', epoch, offset, tonumber(subscribers), check }
