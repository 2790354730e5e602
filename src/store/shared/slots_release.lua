-- Frees the slot of a key, if it is on this account still and was not used since.
--
-- KEYS: 1 hash of slots, 2 hash of facts.
-- ARGV: key, account, unused since (ms) or nothing, start of the names of zsets, end of the names of
--       tiers whose legacy names are kept, then these tiers.
-- Answers: word, born.
local key, account, since, on, legacy = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local born = redis.call('HGET', KEYS[2], 'born')
if not born then return {'lost', '0'} end
local found = redis.call('HGET', KEYS[1], key)
local held = found and cjson.decode(found)
if not held or held.account ~= account then return {'kept', born} end
local keys = on .. held.tier .. ':' .. account
local used = tonumber(redis.call('ZSCORE', keys, key) or '0')
if since ~= '' and used > tonumber(since) then return {'kept', born} end
redis.call('ZREM', keys, key)
redis.call('HDEL', KEYS[1], key)
redis.call('HINCRBY', KEYS[2], 'version', 1)
for at = 6, #ARGV do
  if ARGV[at] == held.tier then
    redis.call('SET', held.tier .. legacy .. account, redis.call('ZCARD', keys))
    redis.call('DEL', 'key_rotation:' .. key)
  end
end
return {'freed', born}
