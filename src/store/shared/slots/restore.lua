-- Puts slots back that the book has lost: those of keys that hold none in it, or an older one, as the
-- one who was first may have known less. A book that was lost, is an old copy, or may be one, begins a
-- new edition with that: all others then do the same.
--
-- Facts beside those of `book.lua`: `copied` and `copied_version`, the edition that this one began as a copy
-- of, and how old that copy was. A slot with `said` was told in this edition, or given.
-- ARGV: …, 6 the version at which the gateway knew the whole book, 7 is this the end of what it knows (0 or
--       1), then for each slot: key, tier, account, last, next, used, previous.
if not born or is_of_another_run or is_older then
  redis.call('HSET', KEYS[2], 'copied', born or '', 'copied_version', version)
  -- No number of the edition before is used again.
  born, version = text(math.max(now, tonumber(born or '0') + 1)), text(now)
  redis.call('HSET', KEYS[2], 'born', born, 'version', version, 'run', ARGV[1])
end
for at = 8, #ARGV, 7 do
  local key, held = ARGV[at], held_by(ARGV[at])
  local slot = {tier = ARGV[at + 1], account = ARGV[at + 2], last = ARGV[at + 3], next = ARGV[at + 4],
    previous = ARGV[at + 6], said = born}
  if not held or tonumber(held.last) < tonumber(slot.last) then
    if held then free(key, held) end
    put(key, slot, ARGV[at + 5])
  elseif held.last == slot.last and held.said ~= born then
    held.said = born
    redis.call('HSET', KEYS[1], key, cjson.encode(held))
  end
end
local copied = redis.call('HMGET', KEYS[2], 'copied', 'copied_version')
if ARGV[7] == '1' and copied[1] == ARGV[2] and tonumber(copied[2]) < tonumber(ARGV[6]) then
  -- What only the copy says, and one who knew more does not, was freed since. He may not be the first to come.
  local all = redis.call('HGETALL', KEYS[1])
  for at = 1, #all, 2 do
    local slot = cjson.decode(all[at + 1])
    if slot.said ~= born then free(all[at], slot) end
  end
end
return {'restored', born, version}
