-- The account of a key, as `store/slots/choose.rs` decides it: all of it in one step.
--
-- KEYS: 1 hash of slots (key -> JSON), 2 hash of facts (born, version), 3 hash of how often each account
--       was given away, 4… for each candidate the zset of keys on it (by their last use).
-- ARGV: key, tier, most keys on one account, period, time to settle, start of the names of zsets,
--       middle of the legacy names or nothing, `born` of the book that knows all that the gateway
--       knows (0: any), then for each candidate: account, rank.
-- Answers: word (`lost`: first the book has to be told what is known), born, then for `held`: change, account, last, next, used, previous; for `full`: the
--       last use of the key that rests longest, or -1; for `settling`: how long.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local key, tier, limit, period = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local settle, on, legacy = tonumber(ARGV[5]), ARGV[6], ARGV[7]

local born = redis.call('HGET', KEYS[2], 'born')
if not born then return {'lost', '0'} end
if ARGV[8] ~= '0' and ARGV[8] ~= born then return {'lost', born} end

local function zset(slot) return on .. slot.tier .. ':' .. slot.account end

-- The names that the older system's users look up.
local function tell_legacy(slot, is_held)
  if legacy == '' then return end
  redis.call('SET', slot.tier .. legacy .. slot.account, redis.call('ZCARD', zset(slot)))
  local rotation = 'key_rotation:' .. key
  if is_held then
    redis.call('HSET', rotation, 'account', slot.account, 'last_rotation', slot.last,
      'next_rotation', slot.next, 'previous_account', slot.previous)
  else
    redis.call('DEL', rotation)
  end
end

local function put(slot)
  slot.last, slot.next = string.format('%.0f', slot.last), string.format('%.0f', slot.next)
  redis.call('HSET', KEYS[1], key, cjson.encode(slot))
  redis.call('HINCRBY', KEYS[2], 'version', 1)
  tell_legacy(slot, true)
end

local found = redis.call('HGET', KEYS[1], key)
local held = found and cjson.decode(found)
local function answer(change, slot)
  local used = redis.call('ZSCORE', zset(slot), key) or now
  return {'held', born, change, slot.account, slot.last, slot.next, string.format('%.0f', used), slot.previous}
end

local mine, best, oldest = false, nil, nil
for at = 9, #ARGV, 2 do
  local account, rank = ARGV[at], tonumber(ARGV[at + 1])
  local keys = KEYS[4 + (at - 9) / 2]
  local used = redis.call('ZCARD', keys)
  if held and held.tier == tier and held.account == account then mine = true end
  if redis.call('ZSCORE', keys, key) then used = used - 1 end
  local rest = redis.call('ZRANGE', keys, 0, 1, 'WITHSCORES')
  local first = rest[1] == key and rest[4] or rest[2]
  if first and (not oldest or tonumber(first) < oldest) then oldest = tonumber(first) end
  if used < limit then
    local given = tonumber(redis.call('HGET', KEYS[3], tier .. ':' .. account) or '0')
    local this = {rank, used, given, account}
    local better = not best
    for place = 1, 4 do
      if best and this[place] ~= best[place] then
        better = this[place] < best[place]
        break
      end
    end
    if better then best = this end
  end
end

if mine and tonumber(held.next) > now then
  local latest = now + period
  if tonumber(held.next) > latest then
    held.last, held.next = tonumber(held.last), latest
    put(held)
  end
  return answer('none', held)
end

local left = tonumber(born) + settle - now
if left > 0 then return {'settling', born, left} end

local function free()
  redis.call('ZREM', zset(held), key)
  redis.call('HDEL', KEYS[1], key)
  redis.call('HINCRBY', KEYS[2], 'version', 1)
  tell_legacy(held, false)
end

if not best then
  if mine then free() end
  return {'full', born, oldest and string.format('%.0f', oldest) or '-1'}
end
local slot = {tier = tier, account = best[4], last = now, next = now + period, previous = ''}
local change = 'first'
if held then
  free()
  if held.tier == tier then
    slot.previous, change = held.account, 'rotated'
  end
end
redis.call('ZADD', zset(slot), now, key)
redis.call('HINCRBY', KEYS[3], tier .. ':' .. slot.account, 1)
put(slot)
return answer(change, slot)
