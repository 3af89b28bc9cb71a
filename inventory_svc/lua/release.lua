-- Gives the units of cancelled or rejected orders of one sku back to its stock. Running it twice
-- is the same as once. Loaded with allow-oom, so that a full Redis can still take stock back.
--
-- KEYS[1]  seckill:sale:{sku}   hash: the sale; missing while it is not loaded
-- KEYS[2]  seckill:stock:{sku}  string: units that are not held
-- KEYS[3]  seckill:users:{sku}  hash: user -> hold "order_no quantity request_id", with a leading
--                               "-" once released (grammar: inventory_svc/stock/hold.py)
-- ARGV[1]  sku, for the notice
-- ARGV[2...] three for each order, at most 1,024 orders: order_no (26 characters), user_id, 1 if the
--            order was rejected and must not count against its buyer, else 0
--
-- Reply: flat array of integers. First the status: 0 done, -1 not loaded; nothing follows a
-- negative status. Then for each order the units given back: the quantity of the buyer's hold if
-- it is live and names that order, else 0.
--
-- A released hold stays as a mark, so that a repeated request gets the same answer; that of a
-- rejected order gets a "0" before its quantity. Publishes the sku on seckill:notices when units
-- come back to an empty stock.

local sale_key, stock_key, users_key = KEYS[1], KEYS[2], KEYS[3]
local sku = ARGV[1]
local FIRST, WIDTH, ORDER_NO_LENGTH = 2, 3, 26
local DONE, NOT_LOADED = 0, -1

local call = redis.call
local state = call('HGET', sale_key, 'state')
local stock = tonumber(call('GET', stock_key))
if not state or not stock or stock % 1 ~= 0 then
  return {NOT_LOADED}
end

local users = {}
for at = FIRST, #ARGV, WIDTH do
  users[#users + 1] = ARGV[at + 1]
end
-- 1,024 users, and below 2,048 values, fit what unpack may put on the stack (8,000).
local holds = call('HMGET', users_key, unpack(users))

local reply, marked, writes = {DONE}, {}, {}
local returned = 0
for n = 1, #users do
  local at = FIRST + (n - 1) * WIDTH
  local user, order_no, rejected = users[n], ARGV[at], ARGV[at + 2] == '1'
  local hold = holds[n]
  local units = 0
  if hold and not marked[user] and string.sub(hold, 1, ORDER_NO_LENGTH) == order_no then
    units = tonumber(string.match(hold, '^%S+ (%d+) '))
    returned = returned + units
    marked[user] = true
    writes[#writes + 1] = user
    writes[#writes + 1] = '-' .. (rejected and string.gsub(hold, ' ', ' 0', 1) or hold)
  end
  reply[n + 1] = units
end

if returned > 0 then
  call('INCRBY', stock_key, returned)
  call('HSET', users_key, unpack(writes))
  if stock <= 0 then
    call('PUBLISH', string.match(sale_key, '^[^:]+') .. ':notices', sku)
  end
end
return reply
