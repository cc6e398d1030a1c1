"""Lua that sorts the queue's messages into lanes, and moves them back (see `lanes`).

Every change is one script, and a crash leaves each message in exactly one place.
"""

from worker.generation.queue.lane_scripts import BULK, MESSAGES, SESSIONS

#: Added to the turns of bulk lanes, which puts them behind every other lane.
_BULK_TURN = 10**12

#: KEYS: queue, lanes, clock, returned, messages, sessions of bulk. ARGV: most messages to sort, then as
#: `Rules.arguments` gives them: slots of an instance, slots of an instance for bulk, most share of all slots for one
#: lane, lane and weight for each that has one.
SORTING = f"""
local queue, lanes, clock, returned, messages, sessions = unpack(KEYS, 1, 6)
redis.call('PERSIST', queue) -- a full Redis takes all writes after it (see `room`)
local weights = {{}}
for place = 5, #ARGV, 2 do weights[ARGV[place]] = tonumber(ARGV[place + 1]) end
local function step(name)
  local payer = is_bulk(name) and string.sub(name, {len(BULK) + 1}) or name
  return 1 / (weights[payer] or payer ~= 'b2c' and weights.store or 1)
end

-- A lane that begins to wait has its turn as if it had been served just now. A version without bulk has one clock.
local now, bulk_now = unpack(redis.call('HMGET', clock, 'turn', 'bulk'))
now, bulk_now = math.fmod(number(now), {_BULK_TURN}), {_BULK_TURN} + math.fmod(number(bulk_now), {_BULK_TURN})
local function begin(name)
  redis.call('ZADD', lanes, 'NX', (is_bulk(name) and bulk_now or now) + step(name), name)
end
local function sort(message, end_of_lane, by)
  local name = lane_of(message)
  begin(name)
  if is_bulk(name) then remember(sessions, message) end
  put(messages, clock, name, message, end_of_lane, by)
end

-- Requeued messages go to the front of their lanes, the oldest in front of all; newer ones to the end.
local front = math.min(math.floor(number(redis.call('GET', returned))), redis.call('LLEN', queue))
if front > 0 then
  for _, message in ipairs(redis.call('LRANGE', queue, -front, -1)) do sort(message, 'first', -1) end
  redis.call('LTRIM', queue, 0, -front - 1)
end
redis.call('DEL', returned)
local found = tonumber(ARGV[1]) > 0 and redis.call('LRANGE', queue, -ARGV[1], -1) or {{}}
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
    + SESSIONS
    + """
-- Nothing to do, as in most of the seconds in which all slots are taken: a single message stays where it is.
local length = redis.call('LLEN', KEYS[1])
if tonumber(ARGV[1]) > 0 and (length == 1 or length == 0 and redis.call('EXISTS', KEYS[2]) == 0) then
  local message = redis.call('LINDEX', KEYS[1], -1)
  if message and is_bulk(lane_of(message)) then remember(KEYS[6], message) end
  return 0
end
"""
    + SORTING
    + """
keep_one()
return unsorted
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
