-- Who is in a room, by worker; which of the workers live is found out elsewhere.
--
--   KEYS  the room's at
--   ARGV  workers known to be dead: what is left of them is taken away
--
-- Answers { worker, { user, count, … }, worker, { … }, … }.
local at = KEYS[1]
for _, dead in ipairs(ARGV) do
  redis.call('DEL', at .. ':' .. dead)
  redis.call('SREM', at, dead)
end
local answer = {}
for _, worker in ipairs(redis.call('SMEMBERS', at)) do
  answer[#answer + 1] = worker
  answer[#answer + 1] = redis.call('HGETALL', at .. ':' .. worker)
end
return answer
