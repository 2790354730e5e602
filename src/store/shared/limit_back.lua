-- Gives back what was drawn and will not be used, the latest first.
--
-- KEYS: 1 hash of the limit. ARGV: gateway, amount.
local back, mine = tonumber(ARGV[2]), {}
local all = redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do
  local owner, ends = string.match(all[at], '^([^:]+):(.+)$')
  if owner == ARGV[1] then mine[#mine + 1] = {tonumber(ends), all[at], tonumber(all[at + 1])} end
end
table.sort(mine, function(a, b) return a[1] > b[1] end)
for _, one in ipairs(mine) do
  local less = math.min(back, one[3])
  if less == one[3] then
    redis.call('HDEL', KEYS[1], one[2])
  else
    redis.call('HINCRBY', KEYS[1], one[2], string.format('%.0f', -less))
  end
  back = back - less
  if back <= 0 then break end
end
return string.format('%.0f', back)
