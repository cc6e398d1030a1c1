"""Scripts that Redis runs in one step for the limiter. Moments are microseconds of Redis' own clock.

KEYS: the calls by the moment of their start, the pause of the intake, the shares of regions (see `limiter.share`);
ARGV: calls per window, window, tolerance, 1 for a region that has a share, microseconds after which a region is silent,
then for each call its token and how many calls there must be fewer of in the window, or 0.
"""

COMMON = """
local set, limit, window, tolerance = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
-- No call starts before this moment.
local earliest = now

local function text(number) return string.format('%.0f', number) end

local function get_score(place)
    return tonumber(redis.call('ZRANGE', set, place, place, 'WITHSCORES')[2] or nil)
end

-- Every waiting call gets the first moment at which the window has room, in the order in which they wait.
local function close_ranks()
    if limit < 1 then return end
    local entries = redis.call('ZRANGE', set, 0, -1, 'WITHSCORES')
    local starts = {}
    for i = 1, #entries / 2 do
        starts[i] = tonumber(entries[2 * i])
        if starts[i] > now then
            local first = math.max(earliest + i, i > limit and starts[i - limit] + window or 0)
            if first ~= starts[i] then redis.call('ZADD', set, first, entries[2 * i - 1]) end
            starts[i] = first
        end
    end
end
"""
_LOOK = """
-- The limit without what regions that are silent may use by themselves. After a loss of Redis' data no call starts for
-- a window: who is silent is not known, nor which calls were made.
local shares, silent, kept = KEYS[3], tonumber(ARGV[5]), {}
local held, held_before = 0, 0
local function look()
    local fields = redis.call('HGETALL', shares)
    for i = 1, #fields, 2 do kept[fields[i]] = fields[i + 1] end
    for _, value in pairs(kept) do
        local share, heard, reported = string.match(value, '^(%d+):(%d+):(%d+)$')
        local age = share and now - heard
        if share and (age < 0 or age >= silent) and now - reported < FORGET * silent then
            held = held + share
        end
    end
    held_before = tonumber(kept.held or 0) or 0
    local since = tonumber(kept.since or 0) or 0
    if since <= now then earliest = math.max(now, since + window) end
    limit = limit - held
end
-- A trim comes first: a full Redis takes the writes after it (see `room`).
local function trim() redis.call('ZREMRANGEBYSCORE', set, '-inf', now - window) end
local function begin()
    if redis.call('EXISTS', shares) == 0 then
        redis.call('HSET', shares, 'since', redis.call('EXISTS', set) == 1 and 0 or text(now))
    end
end
-- -> true if calls that wait have to move.
local function note_held()
    if held == held_before then return false end
    redis.call('HSET', shares, 'held', held)
    return true
end
"""
#: A region that has reported nothing for so many times the silence (a day) does not come back: its share is free.
FORGET = 5760
SHARED = COMMON + _LOOK.replace("FORGET", str(FORGET))

PLACE_CALLS = """
local starts = {}
for i = 6, #ARGV, 2 do
    starts[i] = tonumber(redis.call('ZSCORE', set, ARGV[i]) or nil)
    if starts[i] and starts[i] + tolerance < now then
        -- It rises late (a stalled process, an outage): those behind it keep their distance from its true start.
        starts[i], is_moved = now, true
        redis.call('ZADD', set, now, ARGV[i])
    end
end
if is_moved then close_ranks() end

-- As many calls as the window holds never wait, but for a window that was longer then. Only a clock that was set back
-- leaves their starts in the future: they count as started now.
local function heal()
    local started = get_score(limit - 1) or get_score(-1)
    if started > earliest + 1000000 then
        close_ranks()
        is_moved = true
    end
end

local function get_delay(token, start, most)
    if limit < 1 or most > 0 and is_local then return math.floor(window / 12) end
    if not start then
        local ahead = redis.call('ZCARD', set)
        if most > 0 and ahead >= most then heal() return math.max(1, get_score(ahead - most) + window - now) end
        start = math.max(earliest, ahead >= limit and get_score(ahead - limit) + window or 0)
        redis.call('ZADD', set, start, token)
        -- Longer than any call in the set counts, an outage of some windows included; no longer: rest then costs less.
        redis.call('PEXPIRE', set, math.ceil((start - now + 10 * window) / 1000))
    elseif is_moved then
        start = tonumber(redis.call('ZSCORE', set, token))
    end
    if start > now then
        heal()
        start = tonumber(redis.call('ZSCORE', set, token))
    end
    return math.max(0, start - now)
end

local answers = {redis.call('GET', KEYS[2])}
for i = 6, #ARGV, 2 do answers[#answers + 1] = get_delay(ARGV[i], starts[i], tonumber(ARGV[i + 1])) end
return answers
"""
#: -> the pause, and for each call the microseconds until it may start (0: it has been started). Safe to repeat.
PLACE = (
    SHARED
    + """
trim()
if ARGV[4] == '1' then begin() end
look()
local is_moved, is_local = note_held(), false
"""
    + PLACE_CALLS
)
#: Takes a call back that will not be made; those behind it move up.
RELEASE = SHARED + "if redis.call('ZREM', set, ARGV[6]) == 1 then look() close_ranks() end return 1"

#: KEYS: the calls; ARGV: the window. -> number of calls that have started within the window, and that wait.
USAGE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return {0, 0} end
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local earliest, latest = string.format('(%.0f', now - ARGV[1]), string.format('%.0f', now)
return {redis.call('ZCOUNT', KEYS[1], earliest, latest), redis.call('ZCOUNT', KEYS[1], '(' .. latest, '+inf')}
"""
