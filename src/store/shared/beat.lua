-- One beat of a gateway: it lives, and it asks for its shares of accounts' places.
--
-- KEYS: 1 zset of living gateways (until when), 2 hash of facts (run of the server, settles until when,
--       seq:GATEWAY), 3 set of accounts of which somebody lacks a place, 4… hash of an account:
--       GATEWAY -> "share need room".
-- ARGV: gateway, number of this beat, how long it lives, how long to settle after a loss, run of the server
--       (nothing: unknown), has it gone by itself since its last beat (0 or 1), then for each account: name,
--       places in all, in use here, held here, needed here, wanted beside that.
-- Answers: now (ms), is it settling, place of this gateway in the row, how many there are, the accounts
--       of which somebody lacks a place, then for each account: share, what it should shrink to.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local me, number, lasts, settle = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local run, was_alone = ARGV[5], ARGV[6] == '1'

-- A beat that was long on its way says what is no longer true.
local seq = 'seq:' .. me
local last = tonumber(redis.call('HGET', KEYS[2], seq) or '0')
if number <= last then return redis.error_reply('STALE an older beat') end
redis.call('HSET', KEYS[2], seq, number)

local facts = redis.call('HMGET', KEYS[2], 'run', 'settles')
local settles = tonumber(facts[2] or '0')
if not facts[1] or (run ~= '' and run ~= facts[1]) then
  -- Everything was lost, or an older copy came back: all say first what they hold.
  redis.call('HSET', KEYS[2], 'run', run)
  settles = math.max(settles, now + settle)
end

local silent = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)
local known = redis.call('ZSCORE', KEYS[1], me)
local is_first = not known and #silent == redis.call('ZCARD', KEYS[1])
-- What is before the dash a gateway keeps when it is started again.
local function name(gateway) return string.match(gateway, '^[^-]*') end
local patience = 0
for _, gateway in ipairs(silent) do
  -- Nobody has said anything for longer than that, or this one would have been taken off.
  if was_alone or gateway == me then patience = lasts end
  -- Whoever has just begun knows nothing of the time before, and those who lived then may be slower.
  if is_first and name(gateway) ~= name(me) then patience = math.max(patience, settle) end
end
if patience > 0 then
  -- Who died in the silence and who only could not speak is known when they had the time to come back:
  -- until then their places are theirs.
  for _, gateway in ipairs(silent) do
    redis.call('ZADD', KEYS[1], now + patience, gateway)
    if gateway ~= me then settles = math.max(settles, now + patience) end
  end
else
  for _, gateway in ipairs(silent) do
    redis.call('ZREM', KEYS[1], gateway)
    redis.call('HDEL', KEYS[2], 'seq:' .. gateway)
  end
end
redis.call('HSET', KEYS[2], 'settles', string.format('%.0f', settles))
local settling = now < settles

redis.call('ZADD', KEYS[1], now + lasts, me)
local living = redis.call('ZRANGE', KEYS[1], 0, -1)
table.sort(living)
local alive, rank = {}, 0
for place, name in ipairs(living) do
  alive[name] = true
  if name == me then rank = place - 1 end
end

-- What each would have if all were fair: first what they need, then what they want beside that, the small
-- wishes whole.
local function targets(all, most)
  local order, left = {}, most
  for name, one in pairs(all) do
    one.target = 0
    order[#order + 1] = name
  end
  for _, wish in ipairs({'need', 'room'}) do
    table.sort(order, function(a, b)
      if all[a][wish] ~= all[b][wish] then return all[a][wish] < all[b][wish] end
      return a < b
    end)
    for place, name in ipairs(order) do
      local more = math.min(all[name][wish], math.floor(left / (#order - place + 1)))
      all[name].target = all[name].target + more
      left = left - more
    end
  end
end

local function share(key, name, most, using, hold, need, room)
  local all, others = {}, 0
  local kept = redis.call('HGETALL', key)
  for at = 1, #kept, 2 do
    local owner = kept[at]
    local had, needs, wants = string.match(kept[at + 1], '^(%d+) (%d+) (%d+)$')
    if alive[owner] then
      all[owner] = {share = tonumber(had), need = math.min(tonumber(needs), most), room = tonumber(wants)}
      if owner ~= me then others = others + all[owner].share end
    else
      redis.call('HDEL', key, owner)
    end
  end
  local mine
  if settling then
    -- What is written may be of a time that is over: each has what it says that it holds.
    mine = hold
  elseif known and all[me] then
    mine = math.max(using, math.min(all[me].share, hold))
  else
    -- Forgotten while it lived: what is in use is in use, of the rest what is free.
    mine = math.max(using, math.min(hold, math.max(0, most - others)))
  end
  all[me] = {share = mine, need = math.min(need, most), room = room}
  targets(all, most)
  local goal = all[me].target
  if not settling and goal > mine then
    mine = mine + math.max(0, math.min(goal - mine, most - others - mine))
    all[me].share = mine
  end
  local lacking, lacks = false, false
  for owner, one in pairs(all) do
    if one.share < one.target then
      lacking = true
      if owner ~= me then lacks = true end
    end
  end
  redis.call(lacking and 'SADD' or 'SREM', KEYS[3], name)
  redis.call('PEXPIRE', KEYS[3], 60000)
  redis.call('HSET', key, me, string.format('%d %d %d', mine, need, room))
  redis.call('PEXPIRE', key, 600000)
  -- Who lacks none of it may keep what it does not need.
  return mine, (lacks and goal < mine) and goal or mine
end

local answer = {now, settling and 1 or 0, rank, #living, {}}
local account = 4
for at = 7, #ARGV, 6 do
  local mine, goal = share(KEYS[account], ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]),
    tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]))
  answer[#answer + 1] = mine
  answer[#answer + 1] = goal
  account = account + 1
end
answer[5] = redis.call('SRANDMEMBER', KEYS[3], 100)
return answer
