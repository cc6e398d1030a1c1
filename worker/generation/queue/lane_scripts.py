"""Lua of the lanes (see `lanes`): the functions that the scripts of sorting, choosing and claiming share.

All waiting messages are one sorted set with equal scores, in the order of their bytes: lane, place in the lane (16
digits), message. A list for each lane would be a key that no script can declare, which some managed Redis refuse.
"""

from worker.generation.message import MAX_MESSAGE_BYTES

#: Bulk of a store waits in a lane of its own: this and the store's id.
BULK = "bulk-"
#: A session of bulk that no script has forgotten is not remembered for longer.
_BULK_SECONDS = 8 * 24 * 3600

#: The payer's lane: the store of a b2b message, "b2c" for every other. Decoding JSON would cost ten times as much; a
#: quotation mark inside a JSON text is escaped, so a prompt that contains these words matches nothing.
MESSAGES = f"""
-- Canonical form of an id; nil if there is none. Python reads ids without hyphens, in braces and as URN, too.
local function id_of(message, field)
  local id = string.match(message, '"' .. field .. '"%s*:%s*"([^"]*)"') or ''
  if #id == 36 and not string.find(id, '[^%x-]') then return string.lower(id) end
  local hex = string.gsub(string.gsub(id, '^urn:uuid:', ''), '[{{}}-]', '')
  if #hex ~= 32 or string.find(hex, '%X') then return nil end
  return string.lower(table.concat({{
    hex:sub(1, 8), hex:sub(9, 12), hex:sub(13, 16), hex:sub(17, 20), hex:sub(21) }}, '-'))
end
local function lane_of(message)
  if #message > {MAX_MESSAGE_BYTES} or not string.find(message, '"channel"%s*:%s*"b2b"') then return 'b2c' end
  local store = id_of(message, 'store_id')
  if not store then return 'b2c' end
  return (string.find(message, '"priority"%s*:%s*"bulk"') and '{BULK}' or '') .. store
end
local function is_bulk(name) return string.sub(name, 1, {len(BULK)}) == '{BULK}' end
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

#: The sessions of bulk are known by their ids until they end, so that the sweep leaves them their time.
SESSIONS = f"""
local function session_of(message) return id_of(message, 'session_id') or '' end
local function remember(sessions, message)
  local now = tonumber(redis.call('TIME')[1])
  redis.call('ZREMRANGEBYSCORE', sessions, '-inf', now - {_BULK_SECONDS})
  redis.call('ZADD', sessions, now, session_of(message))
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
