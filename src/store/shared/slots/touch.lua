-- When keys were used last; a later time counts, and keys without a slot do not.
--
-- ARGV: …, from 6 on for each key: key, when (ms).
if is_lost then return {'lost', born or '0', version} end
for at = 6, #ARGV, 2 do
  local slot = held_by(ARGV[at])
  if slot then redis.call('ZADD', zset(slot), 'XX', 'GT', ARGV[at + 1], ARGV[at]) end
end
return {'told', born, version}
