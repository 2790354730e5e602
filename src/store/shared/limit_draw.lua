-- Draws a part of a limit that all gateways share: a sliding window of what was drawn.
--
-- KEYS: 1 hash: `GATEWAY:MS` -> drawn by it, and counted until MS plus the window; `known:GATEWAY` -> used
--       by it before everything was lost; `all:GATEWAY` -> all that it ever drew; `born` -> since when
--       this is whole.
-- ARGV: gateway, most, window (ms), owed, least, want, known by this gateway to be used, the `born` that
--       it saw last (0: none), width of the steps in which the window slides (ms), all that this gateway knows
--       to have drawn.
-- Answers: word, number (`granted`: how much; `spent`: ms until there is some), born.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local me, most, window = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local owed, least, want = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local known, saw, step, ever = tonumber(ARGV[7]), ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10])
local function text(number) return string.format('%.0f', number) end

local all = redis.call('HGETALL', KEYS[1])
local born, used, mine, before, drawn, total = nil, 0, 0, {}, {}, 0
for at = 1, #all, 2 do
  local field, value = all[at], all[at + 1]
  local owner, rest = string.match(field, '^([^:]+):(.+)$')
  if field == 'born' then
    born = value
  elseif owner == 'known' then
    before[rest] = tonumber(value)
  elseif owner == 'all' then
    if rest == me then total = tonumber(value) end
  elseif tonumber(rest) + window <= now then
    redis.call('HDEL', KEYS[1], field)
  else
    used = used + tonumber(value)
    if owner == me then mine = mine + tonumber(value) end
    drawn[#drawn + 1] = {tonumber(rest), tonumber(value)}
  end
end
if not born or (saw ~= '0' and saw ~= born) then
  -- It was lost, and this gateway tells what it knows of the time before.
  if not born then
    born = text(now)
    redis.call('HSET', KEYS[1], 'born', born)
  end
  before[me] = math.max(before[me] or 0, known - mine)
  total = ever
end
if before[me] then
  -- What it used since then is counted as drawn.
  before[me] = math.max(0, math.min(before[me], known - mine))
  redis.call('HSET', KEYS[1], 'known:' .. me, text(before[me]))
end
local is_over = tonumber(born) + window <= now
for owner, amount in pairs(before) do
  if is_over then redis.call('HDEL', KEYS[1], 'known:' .. owner) else used = used + amount end
end

local function count(amount)
  if amount <= 0 then return end
  local ends = math.ceil(now / step) * step
  redis.call('HINCRBY', KEYS[1], me .. ':' .. text(ends), text(amount))
  redis.call('PEXPIRE', KEYS[1], text(window + 2 * step))
  drawn[#drawn + 1] = {ends, amount}
  used = used + amount
end
redis.call('PEXPIRE', KEYS[1], text(window + 2 * step))
-- An older copy came back: it lacks what was drawn since.
count(ever - total)
count(owed)
total = math.max(total, ever) + owed
local left = most - used
redis.call('HSET', KEYS[1], 'all:' .. me, text(total))
if least == 0 then return {'granted', 0, born} end
if left >= least then
  local granted = math.min(want, left)
  count(granted)
  redis.call('HSET', KEYS[1], 'all:' .. me, text(total + granted))
  return {'granted', text(granted), born}
end
-- Until enough of it has left the window.
table.sort(drawn, function(a, b) return a[1] < b[1] end)
local wait = math.max(tonumber(born) + window - now, step)
for _, one in ipairs(drawn) do
  left = left + one[2]
  if left >= least then
    wait = one[1] + window - now
    break
  end
end
return {'spent', text(math.max(1, wait)), born}
