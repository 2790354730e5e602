-- Puts slots back that the book has lost: those of keys that hold none in it, or an older one, as the
-- one who was first may have known less. A book that lost everything is a new one.
--
-- KEYS: 1 hash of slots, 2 hash of facts.
-- ARGV: start of the names of zsets, part of the legacy names, number of tiers that keep them, these
--       tiers, then for each slot: key, tier, account, last, next, used, previous.
-- Answers: word, born.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local text = string.format('%.0f', now)
if redis.call('HSETNX', KEYS[2], 'born', text) == 1 then
  -- No number of the book of before is used again.
  redis.call('HSET', KEYS[2], 'version', text)
end
local on, legacy, tiers = ARGV[1], ARGV[2], tonumber(ARGV[3])
local is_legacy = {}
for at = 4, 3 + tiers do is_legacy[ARGV[at]] = true end
for at = 4 + tiers, #ARGV, 7 do
  local key = ARGV[at]
  local slot = {tier = ARGV[at + 1], account = ARGV[at + 2], last = ARGV[at + 3], next = ARGV[at + 4],
    previous = ARGV[at + 6]}
  local found = redis.call('HGET', KEYS[1], key)
  local held = found and cjson.decode(found)
  if not held or tonumber(held.last) < tonumber(slot.last) then
    if held then redis.call('ZREM', on .. held.tier .. ':' .. held.account, key) end
    redis.call('HSET', KEYS[1], key, cjson.encode(slot))
    local keys = on .. slot.tier .. ':' .. slot.account
    redis.call('ZADD', keys, ARGV[at + 5], key)
    redis.call('HINCRBY', KEYS[2], 'version', 1)
    if is_legacy[slot.tier] then
      redis.call('SET', slot.tier .. legacy .. slot.account, redis.call('ZCARD', keys))
      redis.call('HSET', 'key_rotation:' .. key, 'account', slot.account, 'last_rotation', slot.last,
        'next_rotation', slot.next, 'previous_account', slot.previous)
    end
  end
end
return {'restored', redis.call('HGET', KEYS[2], 'born')}
