"""Lua of the lanes (see `lanes`): every change is one script, and a crash leaves each message in exactly one list."""

from worker.generation import keys
from worker.generation.message import MAX_MESSAGE_BYTES

#: The payer's lane: the store of a b2b message, "b2c" for every other. Decoding JSON would cost ten times as much; a
#: quotation mark inside a JSON text is escaped, so a prompt that contains these words matches nothing.
_LANE_OF = f"""
local function lane_of(message)
  if #message > {MAX_MESSAGE_BYTES} or not string.find(message, '"channel"%s*:%s*"b2b"') then return 'b2c' end
  local store = string.match(message, '"store_id"%s*:%s*"([%x-]+)"')
  return store and #store == 36 and string.lower(store) or 'b2c'
end
local function lane_key(name) return '{keys.lane("")}' .. name end
"""

#: A message has left the claimed list.
UNCOUNT = (
    _LANE_OF
    + """
local function uncount(claimed, running, message)
  if redis.call('LLEN', claimed) == 0 then redis.call('DEL', running) return end
  local name = lane_of(message)
  if redis.call('HINCRBY', running, name, -1) <= 0 then redis.call('HDEL', running, name) end
end
"""
)

#: KEYS: queue, lanes, clock, returned. ARGV: most messages to sort, then as `Rules.arguments` gives them: slots of this
#: instance, most share of all slots for one lane, lane and weight for each that has one.
_SORT = """
local queue, lanes, clock, returned = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
redis.call('PERSIST', queue) -- a full Redis takes all writes after it (see `room`)
local weights = {}
for place = 4, #ARGV, 2 do weights[ARGV[place]] = tonumber(ARGV[place + 1]) end
local function step(name) return 1 / (weights[name] or name ~= 'b2c' and weights.store or 1) end
local now = tonumber(redis.call('GET', clock) or 0) or 0

-- The list of a lane, which has its turn after all that wait now when it begins to wait.
local function joined(name)
  local key = lane_key(name)
  if redis.call('ZADD', lanes, 'NX', now + step(name), name) == 1 then
    local kind = redis.call('TYPE', key).ok
    if kind ~= 'list' and kind ~= 'none' then redis.call('RENAME', key, key .. ':odd') end
  end
  return key
end

-- Requeued messages go to the front of their lanes, the oldest in front of all; newer ones to the end.
local front = math.min(tonumber(redis.call('GET', returned) or 0) or 0, redis.call('LLEN', queue))
if front > 0 then
  for _, message in ipairs(redis.call('LRANGE', queue, -front, -1)) do
    redis.call('RPUSH', joined(lane_of(message)), message)
  end
  redis.call('LTRIM', queue, 0, -front - 1)
end
redis.call('DEL', returned)
local found = tonumber(ARGV[1]) > 0 and redis.call('LRANGE', queue, -ARGV[1], -1) or {}
for place = #found, 1, -1 do
  redis.call('LPUSH', joined(lane_of(found[place])), found[place])
end
if #found > 0 then redis.call('LTRIM', queue, 0, -#found - 1) end
local unsorted = redis.call('LLEN', queue)

-- While a lane has messages the queue has one, too: workers that wait for the queue wake up, and "empty" means empty.
local function keep_one()
  local last = unsorted == 0 and redis.call('ZRANGE', lanes, -1, -1)[1]
  if last then redis.call('LMOVE', lane_key(last), queue, 'LEFT', 'RIGHT') end
end
"""
#: -> how many messages are still unsorted.
SORT = (
    _LANE_OF
    + _SORT
    + """
keep_one()
return unsorted
"""
)

#: KEYS 5 to 7: claimed, running, instances. -> the message, now on the claimed list.
CHOOSE = (
    _LANE_OF
    + """
-- The usual case: one message, which waits for no other.
if redis.call('LLEN', KEYS[1]) == 1 and redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('DEL', KEYS[4])
  local message = redis.call('LMOVE', KEYS[1], KEYS[5], 'RIGHT', 'LEFT')
  redis.call('HINCRBY', KEYS[6], lane_of(message), 1)
  return message
end
"""
    + _SORT
    + f"""
local claimed, running, instances = KEYS[5], KEYS[6], KEYS[7]
local waiting = redis.call('ZCARD', lanes)
if waiting == 0 then redis.call('DEL', clock) return false end
local names = waiting > 1 and redis.call('SMEMBERS', instances) or {{}}
local most = math.max(1, math.floor(ARGV[2] * math.max(1, #names) * ARGV[3]))

local function is_full(name)
  local count = 0
  for _, instance in ipairs(names) do
    local found = redis.pcall('HGET', '{keys.running("")}' .. instance, name)
    count = count + (type(found) == 'string' and tonumber(found) or 0)
  end
  return count >= most
end

-- The first lane with messages by turn; one that has its share already only when all others that wait have theirs.
local function choose()
  local first, turn
  for from = 0, waiting - 1, 16 do
    local found = redis.call('ZRANGE', lanes, from, from + 15, 'WITHSCORES')
    for place = 1, #found, 2 do
      if redis.call('LLEN', lane_key(found[place])) > 0 then
        if waiting == 1 or not is_full(found[place]) then return found[place], tonumber(found[place + 1]) end
        if not first then first, turn = found[place], tonumber(found[place + 1]) end
      end
    end
  end
  return first, turn
end

local name, turn = choose()
if not name then redis.call('DEL', lanes) return false end -- emptied by a version without lanes
local message = redis.call('LMOVE', lane_key(name), claimed, 'RIGHT', 'LEFT')
redis.call('HINCRBY', running, name, 1)
redis.call('SET', clock, turn)
if redis.call('LLEN', lane_key(name)) == 0 then
  redis.call('ZREM', lanes, name)
else
  redis.call('ZADD', lanes, turn + step(name), name)
end
keep_one()
return message
"""
)

#: Back to the queue, the oldest nearest to the taking end, for a version without lanes. KEYS: queue, lanes, clock,
#: returned. ARGV: most messages to move. -> how many lanes are left.
MERGE = (
    _LANE_OF
    + """
redis.call('PERSIST', KEYS[1])
for _ = 1, ARGV[1] do
  local name = redis.call('ZRANGE', KEYS[2], -1, -1)[1]
  if not name then break end
  if redis.call('LMOVE', lane_key(name), KEYS[1], 'LEFT', 'RIGHT') then
    redis.call('ZINCRBY', KEYS[2], -1, name)
  else
    redis.call('ZREM', KEYS[2], name)
  end
end
local left = redis.call('ZCARD', KEYS[2])
if left == 0 then redis.call('DEL', KEYS[3], KEYS[4]) end
return left
"""
)
#: KEYS: queue, lanes, hashes. ARGV: messages to read. -> the queue's next messages, the lanes' names, each hash flat.
VIEW = """
local found = {redis.call('LRANGE', KEYS[1], -ARGV[1], -1), redis.call('ZRANGE', KEYS[2], 0, -1)}
for place = 3, #KEYS do found[place] = redis.call('HGETALL', KEYS[place]) end
return found
"""
#: KEYS: lists of lanes. -> for each, its length and when its next message was made.
MEASURE = """
local found = {}
for place, key in ipairs(KEYS) do
  local message = redis.call('LINDEX', key, -1)
  found[place] = {redis.call('LLEN', key), message and string.match(message, '"created_at"%s*:%s*"([^"]*)"') or false}
end
return found
"""
