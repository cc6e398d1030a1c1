"""Lua that chooses the next message from the lanes, and counts what waits for a slot (see `lanes`)."""

from worker.generation.queue.lane_scripts import BULK, MESSAGES, SESSIONS
from worker.generation.queue.lane_sorting import SORTING

#: The answer when only bulk waits, and runs on as many slots as it may.
HELD_BACK = 1

_BULK_ROOM = f"""
local function has_bulk_room(running)
  local count, fields = 0, redis.call('HGETALL', running)
  for place = 1, #fields, 2 do
    if is_bulk(fields[place]) then count = count + number(fields[place + 1]) end
  end
  return count < tonumber(ARGV[3])
end
local HELD_BACK = {HELD_BACK}
"""

#: KEYS as in `lane_sorting`; 7 and 8: claimed, running; then what runs on other instances. ARGV as there.
#: -> the message, now on the claimed list; false: none waits; or HELD_BACK.
CHOOSE = (
    MESSAGES
    + SESSIONS
    + _BULK_ROOM
    + """
-- Nothing waits. Some services bill the commands of scripts, too.
if redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[5]) == 0 then return false end
-- The usual case: one message, which waits for no other.
if redis.call('LLEN', KEYS[1]) == 1 and redis.call('EXISTS', KEYS[2]) == 0 then
  local message = redis.call('LINDEX', KEYS[1], -1)
  local name = lane_of(message)
  if is_bulk(name) then
    remember(KEYS[6], message)
    if not has_bulk_room(KEYS[8]) then return HELD_BACK end
  end
  redis.call('DEL', KEYS[4])
  redis.call('LMOVE', KEYS[1], KEYS[7], 'RIGHT', 'LEFT')
  add(KEYS[8], name, 1)
  return message
end
"""
    + SORTING
    + """
local claimed, running = KEYS[7], KEYS[8]

-- Messages whose lanes were deleted.
local function find_lanes()
  local member = redis.call('ZRANGE', messages, 0, 0)[1]
  while member do
    local name = string.match(member, '^[^:]*')
    begin(name)
    member = redis.call('ZRANGEBYLEX', messages, '(' .. name .. ';', '+', 'LIMIT', 0, 1)[1]
  end
  return redis.call('ZCARD', lanes)
end
local waiting = redis.call('ZCARD', lanes)
if waiting == 0 then waiting = find_lanes() end
local most = math.max(1, math.floor(ARGV[2] * (#KEYS - 7) * ARGV[4]))

local function is_full(name)
  local count = 0
  for place = 8, #KEYS do count = count + number(redis.call('HGET', KEYS[place], name)) end
  return count >= most
end

-- The first lane with a message by turn; one that has its share already only when all others that wait have theirs.
-- Bulk has its turn once no other lane waits at all.
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
      elseif is_bulk(name) and first and not is_bulk(first) then
        return first, first_turn, first_member
      elseif is_bulk(name) and not has_bulk_room(running) then
        return HELD_BACK
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
if name == HELD_BACK then keep_one() return HELD_BACK end
if not name then redis.call('DEL', lanes, clock) return false end
redis.call('LPUSH', claimed, message_of(name, member))
redis.call('ZREM', messages, member)
add(running, name, 1)
redis.call('HSET', clock, is_bulk(name) and 'bulk' or 'turn', turn)
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

#: KEYS: queue, messages, running. ARGV: most messages of the queue to read. -> how many messages wait that are not
#: bulk; -1 when no bulk runs here, whose slots these could have.
WANTED = (
    MESSAGES
    + f"""
local bulk = false
for _, name in ipairs(redis.call('HGETALL', KEYS[3])) do bulk = bulk or is_bulk(name) end
if not bulk then return -1 end
local count = redis.call('ZCARD', KEYS[2]) - redis.call('ZLEXCOUNT', KEYS[2], '[{BULK}', '({BULK[:-1]}.')
for _, message in ipairs(redis.call('LRANGE', KEYS[1], -ARGV[1], -1)) do
  if not is_bulk(lane_of(message)) then count = count + 1 end
end
return count
"""
)
