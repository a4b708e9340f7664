-- Where many rooms stand, compared with where a worker is, in one command. Writes only to prolong lives.
--
--   KEYS  for each room: meta, at:WORKER
--   ARGV  1 the id of the replication that the worker knows
--         for each room: epoch, offset, check of the last event that it has seen
--
-- Answers for each room: "" all is as seen, or "EPOCH OFFSET" ("- 0": there is no such room);
-- then 1 if the worker's members are known there, else 0.
local fence = ARGV[1]
local kKeep = 3600000
local answer = {}
for i = 1, #KEYS / 2 do
  local meta, mine = KEYS[2 * i - 1], KEYS[2 * i]
  local room = redis.call('HMGET', meta, 'epoch', 'offset', 'check', 'fence')
  local epoch, offset, check = ARGV[3 * i - 1], ARGV[3 * i], ARGV[3 * i + 1]
  if room[1] == epoch and room[2] == offset and (offset == '0' or room[3] == check) then
    answer[2 * i - 1] = ''
    if room[4] ~= fence then
      redis.call('HSET', meta, 'fence', fence, 'before', room[4] or '', 'base', offset)
    end
  else
    answer[2 * i - 1] = (room[1] or '-') .. ' ' .. (room[2] or '0')
  end
  if room[1] and redis.call('PTTL', meta) < kKeep / 2 then redis.call('PEXPIRE', meta, kKeep) end
  local left = redis.call('PTTL', mine)
  answer[2 * i] = left == -2 and 0 or 1
  if left ~= -2 and left < kKeep / 2 then
    redis.call('PEXPIRE', mine, kKeep)
    redis.call('PEXPIRE', meta:sub(1, -5) .. 'at', kKeep)
  end
end
return answer
