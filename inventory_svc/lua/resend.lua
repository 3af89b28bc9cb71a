-- Puts holds that are left of a sale that is not loaded into its outbox, while they stand: so they go
-- to Kafka once more, before the sale is rebuilt from what the database has.
--
-- KEYS[1]  seckill:sale:{sku}     hash of the sale
-- KEYS[2]  seckill:stock:{sku}    string: units that are not held
-- KEYS[3]  seckill:users:{sku}    hash: user -> hold (grammar: inventory_svc/stock/hold.py)
-- KEYS[4]  seckill:outbox:{sku}   stream: the outbox, as reserve.lua writes it
-- KEYS[5]  seckill:backlog:{sku}  hash: entries and reservations in it, as reserve.lua counts them
-- ARGV[1]  epoch that it is rebuilt under
-- ARGV[2]  id of the call, as log lines have it; '' if it has none
-- ARGV[3...] user and hold in turn, at most 1,024 holds
--
-- Reply: array of one integer: how many were put there; -1 if the sale is loaded, and nothing was.

local sale_key, stock_key, users_key, outbox_key, backlog_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local epoch, call_id = ARGV[1], ARGV[2]
local FIRST, WIDTH = 3, 2
local LOADED = -1

local call = redis.call
local stock = tonumber(call('GET', stock_key))
-- As load.lua sees it.
if call('HGET', sale_key, 'state') and stock and stock % 1 == 0 then
  return {LOADED}
end
local lines = {}
for at = FIRST, #ARGV, WIDTH do
  local user, hold = ARGV[at], ARGV[at + 1]
  if call('HGET', users_key, user) == hold then
    lines[#lines + 1] = hold .. ' ' .. user
  end
end
if #lines > 0 then
  local length, counted = call('XLEN', outbox_key), call('HMGET', backlog_key, 'entries', 'reservations')
  local time = call('TIME')
  local now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  call('XADD', outbox_key, '*', 'b', epoch .. ' ' .. now_ms .. ' ' .. call_id .. '\n' .. table.concat(lines, '\n'))
  local entries, reservations = 0, 0
  if length > 0 then
    local known = tonumber(counted[1] or 0)
    entries = math.max(length, known)
    reservations = tonumber(counted[2] or 0) + entries - known
  end
  call('HSET', backlog_key, 'entries', entries + 1, 'reservations', reservations + #lines)
end
return {#lines}
