-- Frees the slot of a key, if it is on this account still and was not used since.
--
-- ARGV: …, 6 key, 7 account, 8 unused since (ms) or nothing. Answers: `freed` or `kept`, ….
if is_lost then return {'lost', born or '0', version} end
local key, account, since = ARGV[6], ARGV[7], ARGV[8]
local held = held_by(key)
if not held or held.account ~= account then return {'kept', born, version} end
local used = tonumber(redis.call('ZSCORE', zset(held), key) or '0')
if since ~= '' and used > tonumber(since) then return {'kept', born, version} end
free(key, held)
return {'freed', born, version}
