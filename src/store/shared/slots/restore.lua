-- Puts slots back that the book has lost: those of keys that hold none in it, or an older one, as the
-- one who was first may have known less. A book that was lost, is an old copy, or may be one, begins a
-- new edition with that: all others then do the same.
--
-- ARGV: …, 6 the version at which the gateway knew the whole book, then for each slot: key, tier, account,
--       last, next, used, previous.
if not born or is_of_another_run or is_older then
  if is_older and tonumber(version) < tonumber(ARGV[6]) then
    -- What is in it and unknown to one who knew more was freed since.
    local all = redis.call('HGETALL', KEYS[1])
    for at = 1, #all, 2 do free(all[at], cjson.decode(all[at + 1])) end
  end
  -- No number of the edition before is used again.
  born, version = text(math.max(now, tonumber(born or '0') + 1)), text(now)
  redis.call('HSET', KEYS[2], 'born', born, 'version', version, 'run', ARGV[1])
end
for at = 7, #ARGV, 7 do
  local key, held = ARGV[at], held_by(ARGV[at])
  local slot = {tier = ARGV[at + 1], account = ARGV[at + 2], last = ARGV[at + 3], next = ARGV[at + 4],
    previous = ARGV[at + 6]}
  if not held or tonumber(held.last) < tonumber(slot.last) then
    if held then free(key, held) end
    put(key, slot, ARGV[at + 5])
  end
end
return {'restored', born, version}
