"""Scripts that Redis runs in one step for `limiter`. Moments are microseconds of Redis' own clock.

KEYS: the calls by the moment of their start, the pause of the intake; ARGV: calls per window, window, tolerance, then
for each call its token and how many calls there must be fewer of in the window, or 0.
"""

_COMMON = """
local set, limit, window, tolerance = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

local function get_score(place)
    return tonumber(redis.call('ZRANGE', set, place, place, 'WITHSCORES')[2] or nil)
end

-- Every waiting call gets the first moment at which the window has room, in the order in which they wait.
local function close_ranks()
    local entries = redis.call('ZRANGE', set, 0, -1, 'WITHSCORES')
    local starts = {}
    for i = 1, #entries / 2 do
        starts[i] = tonumber(entries[2 * i])
        if starts[i] > now then
            local first = math.max(now + i, i > limit and starts[i - limit] + window or 0)
            if first ~= starts[i] then redis.call('ZADD', set, first, entries[2 * i - 1]) end
            starts[i] = first
        end
    end
end
"""

#: -> the pause, and for each call the microseconds until it may start (0: it has been started). Safe to repeat.
PLACE = (
    _COMMON
    + """
redis.call('ZREMRANGEBYSCORE', set, '-inf', now - window)
local starts, is_late, is_moved = {}, false, false
for i = 4, #ARGV, 2 do
    starts[i] = tonumber(redis.call('ZSCORE', set, ARGV[i]) or nil)
    if starts[i] and starts[i] + tolerance < now then
        -- It rises late (a stalled process, an outage): those behind it keep their distance from its true start.
        starts[i], is_late = now, true
        redis.call('ZADD', set, now, ARGV[i])
    end
end
if is_late then
    close_ranks()
    is_moved = true
end

local function get_delay(token, start, most)
    if not start then
        local ahead = redis.call('ZCARD', set)
        if most > 0 and ahead >= most then return math.max(1, get_score(ahead - most) + window - now) end
        start = math.max(now, ahead >= limit and get_score(ahead - limit) + window or 0)
        redis.call('ZADD', set, start, token)
        -- Longer than any call in the set counts, an outage of some windows included; no longer: rest then costs less.
        redis.call('PEXPIRE', set, math.ceil((start - now + 10 * window) / 1000))
    elseif is_moved then
        start = tonumber(redis.call('ZSCORE', set, token))
    end
    if start > now then
        -- As many calls as the window holds never wait, but for a window that was longer then. Only a clock that was
        -- set back leaves their starts in the future: they count as started now.
        local started = get_score(limit - 1) or get_score(-1)
        if started > now + 1000000 then
            close_ranks()
            is_moved = true
            start = tonumber(redis.call('ZSCORE', set, token))
        end
    end
    return math.max(0, start - now)
end

local answers = {redis.call('GET', KEYS[2])}
for i = 4, #ARGV, 2 do answers[#answers + 1] = get_delay(ARGV[i], starts[i], tonumber(ARGV[i + 1])) end
return answers
"""
)

#: Takes a call back that will not be made; those behind it move up.
RELEASE = _COMMON + "if redis.call('ZREM', set, ARGV[4]) == 1 then close_ranks() end"

#: KEYS: the calls; ARGV: the window. -> calls that have started within the window, and those that wait.
USAGE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return {0, 0} end
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local earliest, latest = string.format('(%.0f', now - ARGV[1]), string.format('%.0f', now)
return {redis.call('ZCOUNT', KEYS[1], earliest, latest), redis.call('ZCOUNT', KEYS[1], '(' .. latest, '+inf')}
"""
