"""The changes of the queue and the claimed lists that Redis makes in one step, also when it is full (see `room`)."""

#: PERSIST changes nothing: it is the first write, which must take no memory.
TAKE = """
redis.call('PERSIST', KEYS[1])
return redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT')
"""
JOIN = """
redis.call('PERSIST', KEYS[1])
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], 1, 'PX', ARGV[2])
"""
#: Back to the taking end of the queue, unless the message is gone from the claimed list already.
REQUEUE = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
redis.call('RPUSH', KEYS[2], ARGV[1])
return 1
"""
#: The same even if the claim is gone: one message too many is dropped, one too few is lost.
REQUEUE_ALWAYS = """
redis.call('LREM', KEYS[1], 1, ARGV[1])
local ahead = tonumber(ARGV[2]) > 0 and redis.call('RPOP', KEYS[2], ARGV[2]) or {}
redis.call('RPUSH', KEYS[2], ARGV[1])
for place = #ahead, 1, -1 do redis.call('RPUSH', KEYS[2], ahead[place]) end
"""
#: Newest first, so that the oldest ends up nearest to the taking end again.
REQUEUE_ALL = """
redis.call('PERSIST', KEYS[1])
local moved = 0
while redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT') do moved = moved + 1 end
return moved
"""
