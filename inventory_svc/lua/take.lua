-- Adds the units of a transfer to the bucket that borrows them, once. Loaded with allow-oom, so that
-- units find their buyers while Redis is full.
--
-- KEYS[1]  seckill:sale:{tag}       hash of the bucket that borrows: state, epoch, ...
-- KEYS[2]  seckill:stock:{tag}      string: units that are not held
-- KEYS[3]  seckill:transfers:{tag}  hash: "in:<bucket>" -> number of the last transfer from that bucket
-- ARGV[1]  bucket that lends
-- ARGV[2]  epoch of the sale
-- ARGV[3]  number of the transfer: those from one bucket come one after the other, in order
-- ARGV[4]  its units
--
-- Reply: array of one integer: 1 added now, 0 added before, -1 not loaded under this epoch.

local sale_key, stock_key, transfers_key = KEYS[1], KEYS[2], KEYS[3]
local lender, epoch, number, units = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local ADDED, ADDED_BEFORE, NOT_LOADED = 1, 0, -1

local call = redis.call
local sale = call('HMGET', sale_key, 'state', 'epoch')
local stock = tonumber(call('GET', stock_key))
if not sale[1] or sale[2] ~= epoch or not stock or stock % 1 ~= 0 then
  return {NOT_LOADED}
end
local field = 'in:' .. lender
if number <= tonumber(call('HGET', transfers_key, field) or 0) then
  return {ADDED_BEFORE}
end
call('INCRBY', stock_key, units)
call('HSET', transfers_key, field, string.format('%d', number))
return {ADDED}
