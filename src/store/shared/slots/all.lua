-- The whole book of slots.
--
-- Answers: …, then for each slot: key, tier, account, last, next, used, previous.
if is_lost then return {'lost', born or '0', version} end
local answer = {'book', born, version}
local all = redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do
  local key, slot = all[at], cjson.decode(all[at + 1])
  local used = redis.call('ZSCORE', zset(slot), key) or slot.last
  for _, one in ipairs({key, slot.tier, slot.account, slot.last, slot.next, text(used), slot.previous}) do
    answer[#answer + 1] = one
  end
end
return answer
