-- Gives a lease back, if it is this holder's. KEYS: 1 the lease. ARGV: holder.
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
