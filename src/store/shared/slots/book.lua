-- What all steps of the book of slots have in common; each is put behind this.
--
-- KEYS: 1 hash of slots (key -> JSON), 2 hash of facts: `born` of this edition (ms), `version`, the `run`
--       of the server that it began in.
-- ARGV: 1 run of this server (nothing: unknown), 2 `born` of the edition that was told all that the
--       gateway knows (0: none yet), 3 the highest version of that one that it saw, 4 start of the names
--       of zsets (keys on an account, by their last use), 5 tiers with legacy names (JSON).
-- Answers: word, born, version, …; `lost` where this is not the edition that the gateway means.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local facts = redis.call('HMGET', KEYS[2], 'born', 'version', 'run')
local born, version = facts[1], facts[2] or '0'
-- A server that was started or promoted may have come with an old copy.
local is_of_another_run = ARGV[1] ~= '' and facts[3] ~= ARGV[1]
local is_older = born == ARGV[2] and tonumber(version) < tonumber(ARGV[3])
local is_another = ARGV[2] ~= '0' and born ~= ARGV[2]
local is_lost = not born or is_of_another_run or is_older or is_another

local is_legacy = {}
for _, tier in ipairs(cjson.decode(ARGV[5])) do is_legacy[tier] = true end

local function text(number) return string.format('%.0f', number) end

local function zset(slot) return ARGV[4] .. slot.tier .. ':' .. slot.account end

local function held_by(key)
  local found = redis.call('HGET', KEYS[1], key)
  return found and cjson.decode(found)
end

-- The names that the older system's users look up.
local function tell(key, slot, is_held)
  if not is_legacy[slot.tier] then return end
  redis.call('SET', slot.tier .. '_pool:slots:' .. slot.account, redis.call('ZCARD', zset(slot)))
  local rotation = 'key_rotation:' .. key
  if is_held then
    redis.call('HSET', rotation, 'account', slot.account, 'last_rotation', slot.last,
      'next_rotation', slot.next, 'previous_account', slot.previous)
  else
    redis.call('DEL', rotation)
  end
end

local function changed() version = redis.call('HINCRBY', KEYS[2], 'version', 1) end

local function put(key, slot, used)
  slot.last, slot.next = text(slot.last), text(slot.next)
  redis.call('HSET', KEYS[1], key, cjson.encode(slot))
  redis.call('ZADD', zset(slot), used, key)
  changed()
  tell(key, slot, true)
end

local function free(key, slot)
  redis.call('ZREM', zset(slot), key)
  redis.call('HDEL', KEYS[1], key)
  changed()
  tell(key, slot, false)
end

