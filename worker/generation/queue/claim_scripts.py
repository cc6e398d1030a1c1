"""The changes of the queue and the claimed lists that Redis makes in one step, also when it is full (see `room`)."""

from worker.generation.queue.lane_scripts import SESSIONS, UNCOUNT

#: PERSIST changes nothing: it is the first write, which must take no memory. ARGV 1 and 2: instance, milliseconds, and
#: the sign of life.
JOIN = """
redis.call('PERSIST', KEYS[1])
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[2])
"""
#: KEYS: claimed, instances, the sign of life, Celery's list, running. Nothing changes while the instance has a message:
#: no other instance would look for the message.
LEAVE = """
if redis.call('LLEN', KEYS[1]) > 0 then return end
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])
"""
#: KEYS of all below: claimed, running, queue, returned; `FINISH` has the minute's hash of ended generations
#: and the sessions of bulk instead.
FINISH = (
    UNCOUNT
    + SESSIONS
    + """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
uncount(KEYS[1], KEYS[2], ARGV[1])
add(KEYS[3], lane_of(ARGV[1]), 1)
redis.call('EXPIRE', KEYS[3], ARGV[2])
if is_bulk(lane_of(ARGV[1])) then redis.call('ZREM', KEYS[4], session_of(ARGV[1])) end
return 1
"""
)
#: A key of another type ends the script here, before the message has left its list.
_LOOK = """
redis.call('HLEN', KEYS[2])
redis.call('LLEN', KEYS[3])
local returned = math.floor(number(redis.call('GET', KEYS[4])))
"""
#: Back to the taking end of the queue, unless the message is gone from the claimed list already.
REQUEUE = (
    UNCOUNT
    + _LOOK
    + """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
uncount(KEYS[1], KEYS[2], ARGV[1])
redis.call('RPUSH', KEYS[3], ARGV[1])
redis.call('SET', KEYS[4], returned + 1)
return 1
"""
)
#: The same even if the claim is gone: one message too many is dropped, one too few is lost. Behind ARGV[2] others: in
#: its lane, or in the queue when the lane has fewer. KEYS 5 and 6: messages of all lanes, their clock.
REQUEUE_ALWAYS = (
    UNCOUNT
    + _LOOK
    + """
local claimed, running, queue, _, messages, clock = unpack(KEYS)
local message, behind, name = ARGV[1], tonumber(ARGV[2]), lane_of(ARGV[1])
if redis.call('LREM', claimed, 1, message) == 1 then uncount(claimed, running, message) end
local ahead = behind > 0 and oldest(messages, name, behind) or {}
if behind > 0 and #ahead == behind then
  put(messages, clock, name, message, 'first', -1)
  for place = #ahead, 1, -1 do
    redis.call('ZREM', messages, ahead[place])
    put(messages, clock, name, message_of(name, ahead[place]), 'first', -1)
  end
  return
end
ahead = behind > 0 and redis.call('RPOP', queue, behind - #ahead) or {}
redis.call('RPUSH', queue, message)
for place = #ahead, 1, -1 do redis.call('RPUSH', queue, ahead[place]) end
if #ahead <= returned then redis.call('SET', KEYS[4], returned + 1) end
"""
)
#: Newest first, so that the oldest ends up nearest to the taking end again.
REQUEUE_ALL = (
    UNCOUNT
    + _LOOK
    + """
redis.call('PERSIST', KEYS[1])
local moved = 0
while redis.call('LMOVE', KEYS[1], KEYS[3], 'LEFT', 'RIGHT') do moved = moved + 1 end
redis.call('DEL', KEYS[2])
if moved > 0 then redis.call('SET', KEYS[4], returned + moved) end
return moved
"""
)
