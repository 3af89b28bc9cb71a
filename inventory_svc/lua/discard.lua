-- Closes a sale whose data is stale: without these keys it is not loaded, and is rebuilt. Its outbox
-- stays: it has reservations that were promised. Loaded with allow-oom, so that a full Redis can be
-- corrected.
--
-- KEYS[1]  seckill:sale:{sku}   hash: the sale's terms, state and epoch
-- KEYS[2]  seckill:stock:{sku}  string: units that are not held
-- ARGV[1]  epoch of the stale sale, '' if it has none
--
-- Reply: array of one integer: 1 if it was closed now, 0 if it has been loaded since under another
-- epoch, or is not loaded.

local sale_key, stock_key = KEYS[1], KEYS[2]
local epoch = ARGV[1]

local call = redis.call
local found = call('HGET', sale_key, 'epoch')
if call('EXISTS', sale_key) == 0 or (found or '') ~= epoch then
  return {0}
end
call('UNLINK', sale_key, stock_key)
return {1}
