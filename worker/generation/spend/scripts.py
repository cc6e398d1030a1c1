"""Scripts that Redis runs in one step for `spend`. Amounts are millionths of a USD.

KEYS: reserved, calls, day, month. ARGV: session, worker, payer, amount, model, kind of call (all that sets its price
but the number of pictures), that number, then what each script says.
"""

_COMMON = """
-- Changes nothing, as the key has no time to live: a full Redis takes the writes after it (see `room`).
redis.call('PERSIST', KEYS[1])
local reserved, calls, periods = KEYS[1], KEYS[2], {KEYS[3], KEYS[4]}
local session, worker, payer, amount, model = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
-- The highest cost of late, of calls with any number of pictures and with this one.
local any, like = 'cost ' .. ARGV[6], 'cost ' .. ARGV[6] .. ' ' .. ARGV[7]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- An odd value counts as 0: it would end every script, and with that all paid calls.
local function get(key, name)
    local value = tonumber(redis.call('HGET', key, name) or nil)
    return value and value >= 0 and value < 1e15 and value or 0
end

local function add(key, name, amount)
    redis.call('HSET', key, name, string.format('%.0f', get(key, name) + amount))
end

local function count(payer, amount, model)
    for _, period in ipairs(periods) do
        for _, name in ipairs({'all', payer, 'model ' .. model}) do add(period, name, amount) end
        redis.call('EXPIRE', period, 34560000)
    end
end

-- -> payer, amount and model of the reservation; nothing if there is none, or only another one than the worker's.
local function release(session, worker)
    local entry = redis.call('HGET', reserved, 'call ' .. session) or ''
    local owner, payer, amount, model = string.match(entry, '^(%S+) (%S+) (%d+) (.*)$')
    if worker and owner and owner ~= worker then return nil end
    redis.call('ZREM', calls, session)
    redis.call('HDEL', reserved, 'call ' .. session)
    if not owner then return nil end
    for _, name in ipairs({'all', payer}) do
        local left = get(reserved, name) - amount
        if left > 0 then redis.call('HSET', reserved, name, string.format('%.0f', left))
        else redis.call('HDEL', reserved, name) end
    end
    return payer, amount, model
end
"""

#: ARGV further: milliseconds until the reservation counts as spent, and the limits of the day and the month, first for
#: all and then for the payer; '' where there is none.
#: -> 0 reserved | 1 full of other reservations | 2 spent; with the number of the limit.
RESERVE = (
    _COMMON
    + """
-- The worker of an overdue reservation vanished, and OpenAI may have been paid.
for _, lost in ipairs(redis.call('ZRANGEBYSCORE', calls, '-inf', now, 'LIMIT', 0, 100)) do
    local payer, amount, model = release(lost)
    if payer then count(payer, amount, model) end
end
release(session)
local known, expected = get(reserved, any), get(reserved, like)
if expected == 0 then expected = math.max(tonumber(amount), known) else known = expected end
amount = string.format('%.0f', expected)
-- While no cost is known, a budget is spent only once it is reached, and one call at a time finds out.
local sure = math.max(1, known)
local full = 0
for number = 1, 4 do
    local limit = tonumber(ARGV[8 + number])
    if limit then
        local name = number < 3 and 'all' or payer
        local spent, held = get(periods[(number - 1) % 2 + 1], name), get(reserved, name)
        if spent + sure > limit then return {2, number} end
        if held > 0 and spent + held + amount > limit then full = number end
    end
end
if full > 0 then return {1, full} end
redis.call('HSET', reserved, 'call ' .. session, table.concat({worker, payer, amount, model}, ' '))
redis.call('ZADD', calls, now + ARGV[8], session)
for _, name in ipairs({'all', payer}) do add(reserved, name, amount) end
return {0, 0}
"""
)

#: ARGV further: '1' if the amount was reserved before, and then counts once however often this runs. An amount of ''
#: is not known: it counts as reserved. -> the amount, then spent in day and month by all and by the payer; empty if it
#: was counted before.
SPEND = (
    _COMMON
    + """
local _, kept = release(session, worker)
if not kept and ARGV[8] == '1' then return {} end
if amount == '' then
    amount = kept or string.format('%.0f', math.max(get(reserved, like), get(reserved, any)))
else
    for _, name in ipairs({any, like}) do
        -- Each call lets an old cost fade by a fiftieth.
        local faded = math.floor(get(reserved, name) * 0.98)
        redis.call('HSET', reserved, name, string.format('%.0f', math.max(tonumber(amount), faded)))
    end
end
count(payer, amount, model)
return {amount, get(periods[1], 'all'), get(periods[2], 'all'), get(periods[1], payer), get(periods[2], payer)}
"""
)

#: Takes back what was not paid, unless another worker has the session by now.
RELEASE = _COMMON + "release(session, worker)"

#: KEYS: a period. ARGV: pairs of name and amount. Raises each to this amount at least.
RAISE = """
redis.call('PERSIST', KEYS[1])
for i = 1, #ARGV, 2 do
    local value = tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or nil)
    if not (value and value < 1e15 and value >= tonumber(ARGV[i + 1])) then
        redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    end
end
redis.call('EXPIRE', KEYS[1], 34560000)
"""
