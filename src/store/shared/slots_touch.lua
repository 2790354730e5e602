-- When keys were used last; a later time counts, and keys without a slot do not.
--
-- KEYS: 1 hash of slots, 2 hash of facts. ARGV: start of the names of zsets, then for each key: key, when (ms).
-- Answers: word, born.
local born = redis.call('HGET', KEYS[2], 'born')
if not born then return {'lost', '0'} end
for at = 2, #ARGV, 2 do
  local found = redis.call('HGET', KEYS[1], ARGV[at])
  if found then
    local slot = cjson.decode(found)
    redis.call('ZADD', ARGV[1] .. slot.tier .. ':' .. slot.account, 'XX', 'GT', ARGV[at + 1], ARGV[at])
  end
end
return {'told', born}
