-- Takes one token out of each of several token buckets, by the clock of Redis. A bucket that is
-- full needs no key.
--
-- KEYS[1...] {seckill:gate}:{kind}:{digest}  string "missing at_us": tokens that were missing in
--            the bucket at that Unix time; one key for each token wanted, at most 1,024; the same
--            bucket may be named again
-- ARGV[1]  tokens that flow in a second, above 0
-- ARGV[2]  tokens in a full bucket
--
-- Reply: array of integers, one for each key: 0 if a token was taken, else the milliseconds until
-- there will be one, at least 1.
--
-- A key expires when its bucket is full again, at the latest after a week. Another rate or burst
-- than before leaves in a bucket what is missing, though never more than the burst.

local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
-- A thousandth of a token: what rounding may lose must not cost a call.
local SLACK, WEEK_MS = 0.001, 604800000

local call = redis.call
local time = call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])

local reply = {}
for number, key in ipairs(KEYS) do
  local missing = 0
  local state = call('GET', key)
  if state then
    local was_missing, at_us = string.match(state, '^([%d.]+) (%d+)$')
    if was_missing then
      local flowed = math.max(0, now_us - tonumber(at_us)) / 1000000 * rate
      missing = math.min(math.max(0, tonumber(was_missing) - flowed), burst)
    end
  end
  if missing + 1 <= burst + SLACK then
    missing = missing + 1
    local full_ms = math.min(math.ceil(missing / rate * 1000) + 1, WEEK_MS)
    call('SET', key, string.format('%.6f %.0f', missing, now_us), 'PX', full_ms)
    reply[number] = 0
  else
    reply[number] = math.max(1, math.min(math.ceil((missing + 1 - burst) / rate * 1000), WEEK_MS))
  end
end
return reply
