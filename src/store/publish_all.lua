-- What one turn of a worker's loop has to publish, in one call: of what publish.lua costs Redis a fifth is the
-- call, and is then paid once. Before it stands that script as `local function publish(KEYS, ARGV) … end`
-- (redis_scripts.cpp). Not in a cluster, where the rooms' slots may be different nodes'.
--
--   KEYS  of each: meta, stream and, where it has an id, id:ID
--   ARGV  of each: EVENT without its end, size, ttl, members, fingerprint ("-": it has no id)
--         of all, at the end: the id of the replication, a random word, "1" where pub/sub is sharded
--
-- Answers for each what publish.lua answers, or the error.
local last = #ARGV - 3
local fence, word, sharded = ARGV[last + 1], ARGV[last + 2], ARGV[last + 3]
local time = redis.call('TIME')
local answers, key = {}, 1
for i = 1, last, 5 do
  local known = ARGV[i + 4] ~= '-' and KEYS[key + 2] or nil
  -- What is wrong with one is not the others' business. Before Redis 7 an error is a text.
  local good, answer = pcall(publish, { KEYS[key], KEYS[key + 1], known },
    { ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], fence, word, sharded, time = time })
  if not good and type(answer) ~= 'table' then answer = { err = 'ERR ' .. answer } end
  answers[#answers + 1] = answer
  key = key + (known and 3 or 2)
end
return answers
