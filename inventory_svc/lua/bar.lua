-- Closes one bucket of a sale that is rebuilt, whatever it was loaded under, and bars every load of an
-- earlier epoch: so nothing is sold under one any more. Its outbox stays: it has reservations that were
-- promised. Loaded with allow-oom, so that a full Redis can be corrected.
--
-- KEYS[1]  seckill:sale:{tag}       hash of the bucket: epoch, ...
-- KEYS[2]  seckill:stock:{tag}      string: units that are not held
-- KEYS[3]  seckill:transfers:{tag}  hash: floor, the lowest epoch to load under
-- ARGV[1]  epoch that it is rebuilt under
--
-- Reply: array of one integer: 1 barred, 0 another rebuild has come between under a later epoch, and
-- nothing is changed.

local sale_key, stock_key, transfers_key = KEYS[1], KEYS[2], KEYS[3]
local epoch = ARGV[1]

local call = redis.call
local loaded = tonumber(call('HGET', sale_key, 'epoch') or 0)
local floor = tonumber(call('HGET', transfers_key, 'floor') or 0)
if loaded >= tonumber(epoch) or floor > tonumber(epoch) then
  return {0}
end
call('UNLINK', sale_key, stock_key)
call('HSET', transfers_key, 'floor', epoch)
return {1}
