"""Scripts that Redis runs in one step for `share`; KEYS and ARGV as in `scripts`."""

from worker.generation.limiter.scripts import COMMON, FORGET, PLACE_CALLS, SHARED

#: What a region tells the one limiter. ARGV from the sixth: its identity, its share, the moment of the last answer that
#: it has noted, then the age and the token of each call that it has made by itself within a window. -> now, the share
#: that is left free for the region, and the shares of all others.
REPORT = (
    SHARED
    + """
trim()
begin()
local others, id, share, noted = 0, ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local heard = 0
local fields = redis.call('HGETALL', shares)
for i = 1, #fields, 2 do
    local its, its_heard, reported = string.match(fields[i + 1], '^(%d+):(%d+):(%d+)$')
    if its and fields[i] == id then
        heard = tonumber(its_heard)
    elseif its and now - reported >= FORGET * silent then
        redis.call('HDEL', shares, fields[i])
    elseif its then
        others = others + its
    end
end
share = math.max(0, math.min(share, limit - 1 - others))
-- A moment in the future is from before the clock was set back.
if noted > heard or heard > now then heard = noted end
redis.call('HSET', shares, id, string.format('%d:%.0f:%.0f', share, heard, now))
for i = 9, #ARGV, 2 do redis.call('ZADD', set, now - ARGV[i], ARGV[i + 1]) end
look()
if note_held() or #ARGV > 8 then close_ranks() end
if #ARGV > 8 then redis.call('PEXPIRE', set, math.ceil((math.max(0, get_score(-1) - now) + 10 * window) / 1000)) end
return {text(now), share, others}
""".replace("FORGET", str(FORGET))
)

_ALONE = (
    COMMON
    + """
local noted, share = string.match(redis.call('GET', KEYS[3]) or '', '^(%d+):(%d+)$')
local age = noted and now - noted or -1
if age < tonumber(ARGV[4]) or age >= tonumber(ARGV[5]) or tonumber(share) < 1 then return {} end
limit = math.min(limit, tonumber(share))
"""
)
#: PLACE for a region that is cut off, in its own Redis. KEYS: its own calls, the pause, its last contact with the
#: limiter and its share; ARGV[4] and [5]: how old the contact must be, and must not be. -> nothing if it is not.
PLACE_ALONE = (
    _ALONE
    + """
redis.call('ZREMRANGEBYSCORE', set, '-inf', now - window)
local is_moved, is_local = false, true
"""
    + PLACE_CALLS
)
RELEASE_ALONE = _ALONE + "if redis.call('ZREM', set, ARGV[6]) == 1 then close_ranks() end return 1"

#: In the region's own Redis, after an answer to REPORT: from now on no call is made alone. KEYS: its last contact, its
#: own calls; ARGV: its share, a window. -> age and token of each call that was made alone within the window.
NOTE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
redis.call('PERSIST', KEYS[1]) -- a full Redis takes the SET after it (see `room`)
redis.call('SET', KEYS[1], string.format('%.0f:%d', now, ARGV[1]))
redis.call('ZREMRANGEBYSCORE', KEYS[2], string.format('(%.0f', now), '+inf')
local calls, entries = {}, redis.call('ZRANGEBYSCORE', KEYS[2], now - ARGV[2], '+inf', 'WITHSCORES')
for i = 1, #entries, 2 do
    calls[#calls + 1] = string.format('%.0f', now - entries[i + 1])
    calls[#calls + 1] = entries[i]
end
return calls
"""
