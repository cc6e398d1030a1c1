"""Scripts that Redis runs in one step for `leases`."""

#: Stands in front of each of the others. A key of another type was not made by a worker.
GET = """
local function get(key)
    local kept = redis.pcall('GET', key)
    if type(kept) ~= 'table' then return kept end
    redis.call('DEL', key)
    return false
end
-- The mark names one of two tokens: our own, or that of the worker before, as we have found it.
local function is_ours(mark, token, found)
    local by = string.match(get(mark) or '', '^%S+ %d+ (%S+)')
    return by == token or by == found
end
"""
#: Takes the lease, and counts the start unless a worker before may have paid. -> the session's mark | false: another
#: worker holds the lease. May be repeated with the same token: the answer to an earlier try may have been lost.
ACQUIRE = """
local holder = get(KEYS[1])
if holder and holder ~= ARGV[1] then return false end
local mark = get(KEYS[2])
local starts, token = string.match(mark or 'started 0 -', '^started (%d+) (%S+)')
if starts then
    mark = string.format('started %d %s', token == ARGV[1] and starts or starts + 1, ARGV[1])
end
redis.call('PERSIST', KEYS[1]) -- a full Redis takes the SET after it (see `room`)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('SET', KEYS[2], mark, 'EX', ARGV[3])
return mark
"""
#: Renews any number of leases: two keys and two tokens each. Takes back a lease that ran out and that no other process
#: has (Redis was away, the process was stopped), unless its session was ended, which deletes the mark, or another
#: worker has marked it since. -> 1 or 0 each
RENEW = """
local kept = {}
for i = 1, #KEYS / 2 do
  local lease, mark, token = KEYS[2 * i - 1], KEYS[2 * i], ARGV[2 * i]
  local holder = get(lease)
  local ours = holder == token or not holder and is_ours(mark, token, ARGV[2 * i + 1])
  if ours then
    redis.call('PERSIST', lease)
    redis.call('SET', lease, token, 'PX', ARGV[1])
  end
  kept[i] = ours and 1 or 0
end
return kept
"""
#: Renews one lease in the same way and sets the mark in the same step: a worker that lost the session notes nothing.
NOTE = """
local holder = get(KEYS[1])
if holder ~= ARGV[1] and (holder or not is_ours(KEYS[2], ARGV[1], ARGV[5])) then return 0 end
redis.call('PERSIST', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[4])
return 1
"""
RELEASE = """
local holder = get(KEYS[1])
if holder == ARGV[1] or not holder and is_ours(KEYS[2], ARGV[1], ARGV[3]) then redis.call('DEL', unpack(KEYS)) end
"""
#: Releases the lease and keeps the mark; the start is not counted, because none was made. May be repeated.
RELEASE_UNSTARTED = """
local holder = get(KEYS[1])
if holder and holder ~= ARGV[1] then return end
redis.call('DEL', KEYS[1])
local starts, token = string.match(get(KEYS[2]) or '', '^started (%d+) (%S+)')
if token == ARGV[1] then redis.call('SET', KEYS[2], string.format('started %d -', starts - 1), 'EX', ARGV[2]) end
"""
