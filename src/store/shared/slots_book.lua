-- The whole book of slots.
--
-- KEYS: 1 hash of slots, 2 hash of facts. ARGV: start of the names of zsets.
-- Answers: word, born, then for each slot: key, tier, account, last, next, used, previous.
local born = redis.call('HGET', KEYS[2], 'born')
if not born then return {'lost', '0'} end
local answer = {'book', born}
local all = redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do
  local key, slot = all[at], cjson.decode(all[at + 1])
  local used = redis.call('ZSCORE', ARGV[1] .. slot.tier .. ':' .. slot.account, key) or slot.last
  for _, one in ipairs({key, slot.tier, slot.account, slot.last, slot.next, string.format('%.0f', used), slot.previous}) do
    answer[#answer + 1] = one
  end
end
return answer
