-- Where approvals are, and when which of them is to be looked at: kept in one slot beside the sessions'
-- rooms, which have the truth. An entry is made before the approval, and made right after each change of
-- it: who dies in between leaves an entry that the next sweep finds wrong, never an approval without one.
--
--   "look"    KEYS due                  ARGV 2 how many to skip, 3 how many at the most
--             what is due: { ms until the next one (-1: none), how many wait, "ID SESSION", … }
--   "claim"   KEYS due, id:ID           ARGV 2 ID, 3 session, 4 another session that has not got it ("": none),
--             5 the time that it will have, in ms, or 6 its deadline
--             { "new" | "known" | "other", session }
--   "put"     KEYS due, id:ID, tenant:T ARGV 2 ID, 3 session, 4 ms until it is due (-1: it has ended), 5 deadline
--             The third key is there where it has a tenant.
--   "forget"  KEYS due, id:ID           ARGV 2 ID, 3 session
local kKeep = 604800000    -- of one that has ended
local kListed = 1209600000 -- after its deadline, in lists
-- A claim is looked at before its approval can be overdue for long, and not while that is being made.
local kLongestClaim, kShortestClaim = 5000, 1000

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function whole(n) return string.format('%.0f', n) end

local what, due, known = ARGV[1], KEYS[1], KEYS[2]
if what == 'look' then
  local found = redis.call('ZRANGEBYSCORE', due, '-inf', whole(now), 'LIMIT', ARGV[2], ARGV[3])
  local later = redis.call('ZRANGEBYSCORE', due, '(' .. whole(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return { later[2] and later[2] - now or -1, redis.call('ZCARD', due), unpack(found) }
end

local member, session = ARGV[2] .. ' ' .. ARGV[3], ARGV[3]
if what == 'claim' then
  local other = redis.call('GET', known)
  if other and other ~= session and other ~= ARGV[4] then return { 'other', other } end
  if other ~= session then redis.call('SET', known, session) end
  local time = tonumber(ARGV[5]) or ARGV[6] - now
  redis.call('ZADD', due, 'NX', whole(now + math.max(kShortestClaim, math.min(time, kLongestClaim))), member)
  return { other == session and 'known' or 'new', session }
elseif what == 'put' then
  local wait = tonumber(ARGV[4])
  if wait >= 0 then
    redis.call('SET', known, session)
    redis.call('ZADD', due, whole(now + wait), member)
  else
    redis.call('SET', known, session, 'PX', kKeep)
    redis.call('ZREM', due, member)
  end
  local tenant = KEYS[3]
  if tenant then
    redis.call('ZADD', tenant, ARGV[5], member)
    redis.call('ZREMRANGEBYSCORE', tenant, '-inf', whole(now - kListed))
    redis.call('PEXPIRE', tenant, whole(math.max(redis.call('PTTL', tenant), ARGV[5] - now + kListed, kKeep)))
  end
elseif what == 'forget' then
  redis.call('ZREM', due, member)
  if redis.call('GET', known) == session then redis.call('DEL', known) end
end
return {}
