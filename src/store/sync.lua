-- One worker's dealings with one room: what it has seen is compared with what is there, its members are
-- told, and it gets the room's position and what came after an offset.
--
--   KEYS  the room's meta, stream, at and at:WORKER
--   ARGV  1 the id of the replication it knows   2 random word   3 "1": sharded pub/sub
--         4 epoch, 5 offset, 6 check of the last event it has seen ("": none)   7 the replication then; behind it
--         what other servers have acknowledged: OFFSET CHECK REPLICATION …
--         8 events after this offset are wanted ("": none)   9 how many at the most
--         10 members: "" as they are, "+" changes, "=" all   11 … user, count, user, count …
--
-- Answers { epoch, offset, secret, check, now, events or nil }.
local meta, stream, at, mine = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local fence, word, sharded = ARGV[1], ARGV[2], ARGV[3]
local kKeep = 3600000

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local room = redis.call('HMGET', meta, 'epoch', 'offset', 'secret', 'check', 'fence', 'before', 'base', 'sharded')
local epoch, offset, secret, check = room[1], tonumber(room[2]) or 0, room[3], room[4] or ''
local present = room[5]

-- Whether event `id`, seen with this check, is what this server has under that offset.
local function continues(id, seen, then_fence)
  local n = tonumber(id)
  if n > offset then return false end
  if n == 0 or (then_fence == fence and present == fence) then return true end
  if n == offset then return seen == check end
  local entry = redis.call('XRANGE', stream, id, id, 'COUNT', 1)[1]
  if not entry then
    -- Trimmed. What a server has of an epoch when it takes over is a beginning of what there was before: of the
    -- line that wrote here last, or, where this one has written already, of the one before.
    if present == then_fence then return true end
    return present == fence and then_fence == room[6] and n <= (tonumber(room[7]) or 0)
  end
  local text = epoch .. ' ' .. id .. ' ' .. entry[2][2] .. ' ' .. entry[2][4]
  return redis.sha1hex(text .. secret):sub(1, 16) == seen
end

if epoch and epoch == ARGV[4] then
  local then_fence, others = ARGV[7]:match('^(%S*)(.*)$')
  local whole = continues(ARGV[5], ARGV[6], then_fence)
  for id, seen, by in others:gmatch('(%d+) (%S+) (%S+)') do whole = whole and continues(id, seen, by) end
  -- Acknowledged events are gone. Nobody may go on as if nothing had happened.
  if not whole then epoch = nil end
end
if not epoch then
  secret = redis.sha1hex(word .. time[1] .. '.' .. time[2] .. meta)
  epoch, offset, check = redis.sha1hex(secret .. meta):sub(1, 12):gsub('^0+', ''), 0, ''
  if epoch == '' then epoch = '1' end
  redis.call('DEL', stream, meta)
  redis.call('HSET', meta, 'epoch', epoch, 'offset', 0, 'secret', secret, 'fence', fence, 'base', 0)
  redis.call('PEXPIRE', meta, kKeep)
  room[8] = false
elseif present ~= fence then
  redis.call('HSET', meta, 'fence', fence, 'before', present or '', 'base', string.format('%.0f', offset))
end
if sharded == '1' and not room[8] then redis.call('HSET', meta, 'sharded', 1) end

local mode, me = ARGV[10], mine:sub(#at + 2)
if mode ~= '' then
  if mode == '=' then redis.call('DEL', mine) end
  for i = 11, #ARGV, 2 do
    if redis.call('HINCRBY', mine, ARGV[i], ARGV[i + 1]) <= 0 then redis.call('HDEL', mine, ARGV[i]) end
  end
  if redis.call('EXISTS', mine) == 1 then
    redis.call('PEXPIRE', mine, kKeep)
    redis.call('SADD', at, me)
    redis.call('PEXPIRE', at, kKeep)
  else
    redis.call('SREM', at, me)
  end
end

local events = false
local from = tonumber(ARGV[8])
if from and from <= offset then
  events = {}
  from = math.max(from, offset - tonumber(ARGV[9]))
  if from < offset then events = redis.call('XRANGE', stream, string.format('%.0f', from + 1), '+') end
end
return { epoch, offset, secret, check, now, events }
