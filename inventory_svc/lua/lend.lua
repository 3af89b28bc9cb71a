-- Lends units of one bucket of a sale to another: they leave its stock, and the transfer is on record
-- until it is settled. While one to the same bucket is on record there is no other: it is returned.
-- Loaded with allow-oom, so that units find their buyers while Redis is full.
--
-- KEYS[1]  seckill:sale:{tag}       hash of the bucket that lends: state, epoch, ...
-- KEYS[2]  seckill:stock:{tag}      string: units that are not held
-- KEYS[3]  seckill:transfers:{tag}  hash: "out:<bucket>" -> "number units", the last transfer to that
--                                   bucket; 0 units once it is settled
-- ARGV[1]  bucket that borrows
-- ARGV[2]  epoch of the sale
-- ARGV[3]  units that it needs, at least 1
-- ARGV[4]  most units to lend beyond these; half of the stock is lent if that is less
--
-- Reply: array of three integers: 1 lent now, 0 on record before or nothing to lend, -1 not loaded
-- under this epoch; the transfer's number; its units, 0 if there is nothing to lend. With -1 the other
-- two are 0.

local sale_key, stock_key, transfers_key = KEYS[1], KEYS[2], KEYS[3]
local borrower, epoch, need, block_max = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local LENT, NOTHING_NEW, NOT_LOADED = 1, 0, -1

local call = redis.call
local sale = call('HMGET', sale_key, 'state', 'epoch')
local stock = tonumber(call('GET', stock_key))
if not sale[1] or sale[2] ~= epoch or not stock or stock % 1 ~= 0 then
  return {NOT_LOADED, 0, 0}
end
local field = 'out:' .. borrower
local number, units = string.match(call('HGET', transfers_key, field) or '0 0', '^(%d+) (%d+)$')
number, units = tonumber(number), tonumber(units)
if units > 0 then
  return {NOTHING_NEW, number, units}
end
units = math.min(stock, math.max(need, math.min(block_max, math.floor(stock / 2))))
if units <= 0 then
  return {NOTHING_NEW, number, 0}
end
call('DECRBY', stock_key, units)
call('HSET', transfers_key, field, string.format('%d %d', number + 1, units))
return {LENT, number + 1, units}
