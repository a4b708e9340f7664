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

local function check(meta, mine, epoch, offset, seen)
  local found = ''
  local room = redis.call('HMGET', meta, 'epoch', 'offset', 'check', 'fence')
  if room[1] == epoch and room[2] == offset and (offset == '0' or room[3] == seen) then
    if room[4] ~= fence then
      redis.call('HSET', meta, 'fence', fence, 'before', room[4] or '', 'base', offset)
    end
  else
    found = (room[1] or '-') .. ' ' .. (room[2] or '0')
  end
  if room[1] and redis.call('PTTL', meta) < kKeep / 2 then redis.call('PEXPIRE', meta, kKeep) end
  local left = redis.call('PTTL', mine)
  if left ~= -2 and left < kKeep / 2 then
    redis.call('PEXPIRE', mine, kKeep)
    redis.call('PEXPIRE', meta:sub(1, -5) .. 'at', kKeep)
  end
  return found, left == -2 and 0 or 1
end

local answer = {}
for i = 1, #KEYS / 2 do
  -- What is wrong with one room is not the others' business.
  local good, found, known =
    pcall(check, KEYS[2 * i - 1], KEYS[2 * i], ARGV[3 * i - 1], ARGV[3 * i], ARGV[3 * i + 1])
  answer[2 * i - 1] = good and found or '- 0'
  answer[2 * i] = good and known or 1
end
return answer
