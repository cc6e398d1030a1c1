"""Lua of the lanes (see `lanes`): every change is one script, and a crash leaves each message in exactly one place."""

from worker.generation.message import MAX_MESSAGE_BYTES

#: The payer's lane: the store of a b2b message, "b2c" for every other. Decoding JSON would cost ten times as much; a
#: quotation mark inside a JSON text is escaped, so a prompt that contains these words matches nothing.
#:
#: All waiting messages are one sorted set with equal scores, in the order of their bytes: lane, place in the lane (16
#: digits), message. A list for each lane would be a key that no script can declare, which some managed Redis refuse.
MESSAGES = f"""
local function lane_of(message)
  if #message > {MAX_MESSAGE_BYTES} or not string.find(message, '"channel"%s*:%s*"b2b"') then return 'b2c' end
  local store = string.match(message, '"store_id"%s*:%s*"([%x-]+)"')
  return store and #store == 36 and string.lower(store) or 'b2c'
end
-- An odd value counts as 0: it would end every script, and with that the intake.
local function number(value)
  value = tonumber(value or 0)
  return value and math.abs(value) < 1e15 and value or 0
end
local function add(hash, field, by)
  local sum = math.floor(number(redis.call('HGET', hash, field))) + by
  redis.call('HSET', hash, field, sum)
  return sum
end
local function put(messages, clock, name, message, end_of_lane, by)
  local place = 5e15 + add(clock, end_of_lane, by)
  redis.call('ZADD', messages, 0, name .. ':' .. string.format('%016d', place) .. ':' .. message)
end
local function message_of(name, member) return string.sub(member, #name + 19) end
local function oldest(messages, name, count)
  return redis.call('ZRANGEBYLEX', messages, '[' .. name .. ':', '(' .. name .. ';', 'LIMIT', 0, count)
end
local function newest(messages, name)
  return redis.call('ZREVRANGEBYLEX', messages, '(' .. name .. ';', '[' .. name .. ':', 'LIMIT', 0, 1)[1]
end
"""

#: A message has left the claimed list.
UNCOUNT = (
    MESSAGES
    + """
local function uncount(claimed, running, message)
  if redis.call('LLEN', claimed) == 0 then redis.call('DEL', running) return end
  local name = lane_of(message)
  if add(running, name, -1) <= 0 then redis.call('HDEL', running, name) end
end
"""
)

#: KEYS: queue, lanes, clock, returned, messages. ARGV: most messages to sort, then as `Rules.arguments` gives them:
#: slots of an instance, most share of all slots for one lane, lane and weight for each that has one.
_SORT = """
local queue, lanes, clock, returned, messages = unpack(KEYS, 1, 5)
redis.call('PERSIST', queue) -- a full Redis takes all writes after it (see `room`)
local weights = {}
for place = 4, #ARGV, 2 do weights[ARGV[place]] = tonumber(ARGV[place + 1]) end
local function step(name) return 1 / (weights[name] or name ~= 'b2c' and weights.store or 1) end

-- A lane that begins to wait has its turn as if it had been served just now.
local now = number(redis.call('HGET', clock, 'turn'))
local function sort(message, end_of_lane, by)
  local name = lane_of(message)
  redis.call('ZADD', lanes, 'NX', now + step(name), name)
  put(messages, clock, name, message, end_of_lane, by)
end

-- Requeued messages go to the front of their lanes, the oldest in front of all; newer ones to the end.
local front = math.min(math.floor(number(redis.call('GET', returned))), redis.call('LLEN', queue))
if front > 0 then
  for _, message in ipairs(redis.call('LRANGE', queue, -front, -1)) do sort(message, 'first', -1) end
  redis.call('LTRIM', queue, 0, -front - 1)
end
redis.call('DEL', returned)
local found = tonumber(ARGV[1]) > 0 and redis.call('LRANGE', queue, -ARGV[1], -1) or {}
for place = #found, 1, -1 do sort(found[place], 'last', 1) end
if #found > 0 then redis.call('LTRIM', queue, 0, -#found - 1) end
local unsorted = redis.call('LLEN', queue)

-- While a lane has messages the queue has one, too: workers that wait for the queue wake up, and "empty" means empty.
local function keep_one()
  if unsorted > 0 then return end
  repeat
    local last = redis.call('ZRANGE', lanes, -1, -1)[1]
    local member = last and newest(messages, last)
    if member then
      redis.call('RPUSH', queue, message_of(last, member)) -- first: a key of another type ends the script
      redis.call('ZREM', messages, member)
    elseif last then
      redis.call('ZREM', lanes, last) -- emptied by a version without lanes
    end
  until member or not last
end
"""
#: -> how many messages are still unsorted.
SORT = (
    MESSAGES
    + """
-- Nothing to do, as in most of the seconds in which all slots are taken: a single message stays where it is.
local length = redis.call('LLEN', KEYS[1])
if tonumber(ARGV[1]) > 0 and (length == 1 or length == 0 and redis.call('EXISTS', KEYS[2]) == 0) then return 0 end
"""
    + _SORT
    + """
keep_one()
return unsorted
"""
)

#: KEYS 6 to 7: claimed, running; then what runs on other instances. -> the message, now on the claimed list.
CHOOSE = (
    MESSAGES
    + """
-- Nothing waits. Some services bill the commands of scripts, too.
if redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[5]) == 0 then return false end
-- The usual case: one message, which waits for no other.
if redis.call('LLEN', KEYS[1]) == 1 and redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('DEL', KEYS[4])
  local message = redis.call('LMOVE', KEYS[1], KEYS[6], 'RIGHT', 'LEFT')
  add(KEYS[7], lane_of(message), 1)
  return message
end
"""
    + _SORT
    + """
local claimed, running = KEYS[6], KEYS[7]

-- Messages whose lanes were deleted.
local function find_lanes()
  local member = redis.call('ZRANGE', messages, 0, 0)[1]
  while member do
    local name = string.match(member, '^[^:]*')
    redis.call('ZADD', lanes, now + step(name), name)
    member = redis.call('ZRANGEBYLEX', messages, '(' .. name .. ';', '+', 'LIMIT', 0, 1)[1]
  end
  return redis.call('ZCARD', lanes)
end
local waiting = redis.call('ZCARD', lanes)
if waiting == 0 then waiting = find_lanes() end
local most = math.max(1, math.floor(ARGV[2] * (#KEYS - 6) * ARGV[3]))

local function is_full(name)
  local count = 0
  for place = 7, #KEYS do count = count + number(redis.call('HGET', KEYS[place], name)) end
  return count >= most
end

-- The first lane with a message by turn; one that has its share already only when all others that wait have theirs.
local function choose()
  local first, first_turn, first_member
  local from = 0
  repeat
    local page = redis.call('ZRANGE', lanes, from, from + 15, 'WITHSCORES')
    for place = 1, #page, 2 do
      local name, turn = page[place], tonumber(page[place + 1])
      local member = oldest(messages, name, 1)[1]
      if not member then -- emptied by a version without lanes: its turn is over
        redis.call('ZREM', lanes, name)
      elseif waiting == 1 or not is_full(name) then
        return name, turn, member
      else
        if not first then first, first_turn, first_member = name, turn, member end
        from = from + 1
      end
    end
  until #page == 0
  return first, first_turn, first_member
end

local name, turn, member = choose()
if not name then redis.call('DEL', lanes, clock) return false end
redis.call('LPUSH', claimed, message_of(name, member))
redis.call('ZREM', messages, member)
add(running, name, 1)
redis.call('HSET', clock, 'turn', turn)
if #oldest(messages, name, 1) == 0 then
  redis.call('ZREM', lanes, name)
else
  redis.call('ZADD', lanes, turn + step(name), name)
end
keep_one()
if redis.call('EXISTS', lanes) == 0 then redis.call('DEL', clock) end
return message_of(name, member)
"""
)

#: Back to the queue, the oldest nearest to the taking end, for a version without lanes. KEYS as above. ARGV: most
#: messages to move. -> how many lanes are left.
MERGE = (
    MESSAGES
    + """
redis.call('PERSIST', KEYS[1])
for _ = 1, ARGV[1] do
  local name = redis.call('ZRANGE', KEYS[2], -1, -1)[1]
  if not name then break end
  local member = newest(KEYS[5], name)
  if member then
    redis.call('RPUSH', KEYS[1], message_of(name, member))
    redis.call('ZREM', KEYS[5], member)
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
