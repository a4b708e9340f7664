-- Who is in a room, by worker; which of the workers live is found out elsewhere.
--
--   KEYS  the room's at
--
-- A worker's roster expires by itself, and its name goes with it: after FLUSHALL a worker that lives has no
-- lease for a moment, and must not lose its roster for that.
--
-- Answers { worker, { user, count, … }, worker, { … }, … }.
local at = KEYS[1]
local answer = {}
for _, worker in ipairs(redis.call('SMEMBERS', at)) do
  local users = redis.call('HGETALL', at .. ':' .. worker)
  if #users == 0 then
    redis.call('SREM', at, worker)
  else
    answer[#answer + 1] = worker
    answer[#answer + 1] = users
  end
end
return answer
