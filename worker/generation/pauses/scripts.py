"""Scripts that Redis runs in one step for `pauses` and `breaker`. Moments are milliseconds of Redis' own clock."""

_COMMON = """
-- Changes nothing, as the key has no time to live: a full Redis takes the writes after it (see `room`).
redis.call('PERSIST', KEYS[1])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- A moment further ahead than it was set to comes from a clock that has been set back since: it is over.
local function get_pause()
    local kept = redis.call('GET', KEYS[1])
    local read, pause = pcall(cjson.decode, kept or 'null')
    -- What no worker has written is no pause.
    if not read or type(pause) ~= 'table' or type(pause.reason) ~= 'string' or type(pause.probe) ~= 'string'
        or type(pause.since) ~= 'number' or type(pause.probe_at) ~= 'number' then return nil end
    pause.probe_until = tonumber(pause.probe_until) or 0
    local period = tonumber(pause.period) or pause.probe_at - pause.since
    pause.since = math.min(pause.since, now)
    if pause.probe_at > now + period then pause.probe_at = now end
    return pause
end

local function set_pause(pause)
    redis.call('SET', KEYS[1], cjson.encode(pause))
    return 1
end

local function begin(before, reason, milliseconds)
    return set_pause({reason = reason, since = before and before.since or now, probe_at = now + milliseconds,
                      period = tonumber(milliseconds), probe = '', probe_until = 0})
end

local function remember(list, since)
    redis.call('LPUSH', list, string.format('%.0f %.0f', since, now))
    redis.call('LTRIM', list, 0, 499)
    redis.call('EXPIRE', list, 604800)
end
"""


def _script(body: str) -> str:
    return _COMMON + body


#: Only its probe changes a pause: the last calls of before say nothing new.
CHANGE = _script("""
local pause = get_pause()
if pause and pause.probe ~= ARGV[3] then return 0 end
return begin(pause, ARGV[1], ARGV[2])
""")
END = _script("""
local pause = get_pause()
if not pause or (ARGV[1] ~= '' and pause.probe ~= ARGV[1]) or (ARGV[2] ~= '' and pause.reason ~= ARGV[2]) then
    return 0
end
redis.call('DEL', KEYS[1], KEYS[3])
remember(KEYS[2], pause.since)
return 1
""")
TAKE = _script("""
local pause = get_pause()
if not pause then return 1 end
local lost = pause.probe_until < now or pause.probe_until > now + ARGV[2]
local free = pause.probe == '' or pause.probe == ARGV[1] or lost
if now < pause.probe_at or not free then return 0 end
pause.probe, pause.probe_until = ARGV[1], now + ARGV[2]
return set_pause(pause)
""")
MOVE = _script("""
local pause = get_pause()
if not pause or pause.probe ~= ARGV[1] then return 0 end
pause.probe, pause.probe_until = ARGV[2], now + ARGV[3]
return set_pause(pause)
""")
SOON = _script("""
local pause = get_pause()
if not pause then return 0 end
pause.probe_at = now
return set_pause(pause)
""")
STOP = _script("""
if redis.call('SET', KEYS[1], ARGV[1], 'GET') then return 0 end
redis.call('SET', KEYS[2], string.format('%.0f', now))
return 1
""")
RESUME = _script("""
local since = redis.call('GET', KEYS[2])
if redis.call('DEL', KEYS[1], KEYS[2]) == 0 then return 0 end
if since then remember(KEYS[3], since) end
return 1
""")

#: One answer of OpenAI, the newest first on the list. Opens the breaker once enough of the latest ones are failures, of
#: more than one session: a picture that OpenAI chokes on does not stop everything.
#: -> 0 closed | 1 opened by this answer | 2 in a pause
COUNT = _script("""
local available, session, size, limit = ARGV[1] == '1', ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('LPUSH', KEYS[2], string.format('%.0f %s %s', now, ARGV[1], session))
redis.call('LTRIM', KEYS[2], 0, size - 1)
redis.call('PEXPIRE', KEYS[2], ARGV[5])
if available then redis.call('SET', KEYS[3], string.format('%.0f', now), 'EX', 86400) end
if get_pause() then return 2 end
if available then return 0 end
local failures, others = 0, 0
for _, entry in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
    local at, good, whose = string.match(entry, '^(%S+) (%S) (.*)$')
    at = tonumber(at)
    if at and good == '0' and math.abs(now - at) <= tonumber(ARGV[5]) then
        failures = failures + 1
        if whose ~= session then others = others + 1 end
    end
end
if failures < limit or others == 0 then return 0 end
return begin(nil, ARGV[6], ARGV[7])
""")
#: A session whose call failed for good. A failure counts for the session only when OpenAI served others since the one
#: before. A failed probe prolongs the pause; without any success lately the breaker opens. -> failures that count
FAILED = _script("""
local session, milliseconds = ARGV[1], ARGV[3]
local served, quiet = tonumber(redis.call('GET', KEYS[3]) or '0') or 0, tonumber(ARGV[2])
if served > now + quiet then served = 0 end
local before = redis.call('HMGET', KEYS[4], 'count', 'at')
local count = tonumber(before[1] or '0') or 0
if before[2] and served > (tonumber(before[2]) or 0) then count = count + 1 end
redis.call('HSET', KEYS[4], 'count', count, 'at', string.format('%.0f', now))
redis.call('EXPIRE', KEYS[4], 86400)
local pause = get_pause()
if pause and pause.probe == session or not pause and served < now - quiet then
    begin(pause, ARGV[4], milliseconds)
end
return count
""")
