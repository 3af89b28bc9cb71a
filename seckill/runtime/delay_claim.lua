-- Claims orders of the delay set that are due, earliest first: their times move to the end of the
-- lease. Another caller gets other orders meanwhile, and a caller that dies leaves behind nothing but
-- later times.
--
-- KEYS[1]  seckill:delay  sorted set: order number -> Unix milliseconds at which it is due
-- ARGV[1]  most orders to claim, at most 1,024
-- ARGV[2]  lease in milliseconds
--
-- Reply: array of two: now, in Unix milliseconds by this server's clock; the array of order numbers.
--
-- One clock for all: a lease is a promise between replicas. By their own clocks, a replica that is
-- ahead would take what the others have just claimed.

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
