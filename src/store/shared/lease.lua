-- Takes a lease, or makes it longer for its holder.
--
-- KEYS: 1 the lease. ARGV: holder, how long (ms). Answers: 1, or 0 where another has it.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
