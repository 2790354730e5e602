-- Keeps an account's newest token, sealed.
--
-- KEYS: 1 hash of the token. ARGV: when it was granted (ms), the token, how long it is kept (ms).
local kept = tonumber(redis.call('HGET', KEYS[1], 'granted') or '0')
if kept > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'granted', ARGV[1], 'sealed', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
