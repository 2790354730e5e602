-- The account of a key, as `store/slots/choose.rs` decides it: all of it in one step.
--
-- KEYS: …, 3 hash of how often each account was given away, 4… for each candidate its zset.
-- ARGV: …, 6 key, 7 tier, 8 most keys on one account, 9 period, 10 time to settle, then for each candidate:
--       account, rank.
-- Answers: for `held`: …, change, account, last, next, used, previous; for `full`: …, has the key lost its
--       slot (0 or 1), the last use of the key that rests longest, or -1; for `settling`: …, how long.
if is_lost then return {'lost', born or '0', version} end
local key, tier, limit, period = ARGV[6], ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
local settle = tonumber(ARGV[10])
local held = held_by(key)

local function answer(change, slot)
  local used = redis.call('ZSCORE', zset(slot), key) or now
  return {'held', born, version, change, slot.account, slot.last, slot.next, text(used), slot.previous}
end

local mine, best, oldest = false, nil, nil
for at = 11, #ARGV, 2 do
  local account, rank = ARGV[at], tonumber(ARGV[at + 1])
  local keys = KEYS[4 + (at - 11) / 2]
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
    held.next = latest
    put(key, held, redis.call('ZSCORE', zset(held), key) or now)
  end
  return answer('none', held)
end

local left = tonumber(born) + settle - now
if left > 0 then return {'settling', born, version, left} end

if not best then
  if mine then free(key, held) end
  return {'full', born, version, mine and '1' or '0', oldest and text(oldest) or '-1'}
end
local slot = {tier = tier, account = best[4], last = now, next = now + period, previous = '',
  said = born}
local change = 'first'
if held then
  free(key, held)
  if held.tier == tier then
    slot.previous, change = held.account, 'rotated'
  end
end
redis.call('HINCRBY', KEYS[3], tier .. ':' .. slot.account, 1)
put(key, slot, now)
return answer(change, slot)
