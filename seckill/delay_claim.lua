-- Claims orders of the delay set: due ones, earliest first, become due again after the lease. Whoever
-- asks meanwhile gets others; whoever dies with a claim leaves nothing behind but a later time.
--
-- KEYS[1]  seckill:delay  sorted set: order number -> Unix milliseconds at which it is due
-- ARGV[1]  most orders to claim, at most 1,024
-- ARGV[2]  milliseconds for which they are the caller's
--
-- Reply: array of two: now, in Unix milliseconds by this server's clock; the array of order numbers.
--
-- One clock for all: a lease is a promise between replicas, and by the callers' clocks one that is
-- ahead would take from the others what they have just claimed.

local delay_key = KEYS[1]
local limit, lease_ms = ARGV[1], tonumber(ARGV[2])

local call = redis.call
local time = call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local due = call('ZRANGEBYSCORE', delay_key, '-inf', string.format('%.0f', now_ms), 'LIMIT', 0, limit)
if #due > 0 then
  local until_ms, scores = string.format('%.0f', now_ms + lease_ms), {}
  for n = 1, #due do
    scores[2 * n - 1], scores[2 * n] = until_ms, due[n]
  end
  call('ZADD', delay_key, unpack(scores))
end
return {now_ms, due}
