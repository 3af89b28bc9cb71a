-- Loads a sale: its terms, its stock, and (when it is rebuilt) the holds that were staged for it.
-- Never touches a sale that is loaded, under any epoch.
--
-- KEYS[1]  seckill:sale:{sku}   hash: the sale's terms, state and epoch
-- KEYS[2]  seckill:stock:{sku}  string: units that are not held
-- KEYS[3]  seckill:users:{sku}  hash: user -> hold (grammar: inventory_svc/stock/hold.py)
-- KEYS[4]  seckill:outbox:{sku}  stream: the outbox; kept with all that is in it
-- KEYS[5]  seckill:staged:{sku}:epoch  hash: user -> hold; becomes KEYS[3]
-- KEYS[6]  seckill:past:{sku}  hash: user -> the holds that a later one has replaced
-- KEYS[7]  seckill:staged-past:{sku}:epoch  hash: user -> such holds; becomes KEYS[6]
-- KEYS[8]  seckill:transfers:{sku}  hash: transfers of the load before, and the lowest epoch to load
--          under; only of a bucket of several, whose tag stands in the place of the sku
-- ARGV[1]  sku, for the notice
-- ARGV[2]  epoch to load under, at least 1
-- ARGV[3]  units that are not held, at least 0
-- ARGV[4]  how many holds were staged, live and released
-- ARGV[5]  for how many users earlier holds were staged
-- ARGV[6...] field and value of the sale's hash in turn (epoch is added here)
--
-- Reply: array of two integers: 1 if it was loaded now, 0 if it was loaded before, -1 if the staged
-- holds are not all there, -2 if a later rebuild has barred this epoch; the epoch it is loaded under, 0
-- if the first is negative.
--
-- Publishes the sku on seckill:notices when it was loaded.

local sale_key, stock_key, users_key, outbox_key, staged, past_key, staged_past, transfers_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local sku, epoch, units, staged_count, past_count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local FIRST = 6

local call = redis.call
local sale = call('HMGET', sale_key, 'state', 'epoch')
local stock = tonumber(call('GET', stock_key))
-- As reserve.lua sees it: what it would sell from is loaded.
if sale[1] and stock and stock % 1 == 0 then
  return {0, tonumber(sale[2])}
end
if transfers_key and tonumber(epoch) < tonumber(call('HGET', transfers_key, 'floor') or 0) then
  return {-2, 0}
end
-- Both fail on a key of the wrong type, before anything is written.
call('HLEN', users_key)
call('XLEN', outbox_key)
if call('HLEN', staged) ~= staged_count or call('HLEN', staged_past) ~= past_count then
  return {-1, 0}
end

call('UNLINK', sale_key, stock_key, users_key, past_key)
if staged_count > 0 then
  call('RENAME', staged, users_key)
  -- Staged holds expire, in case they are never loaded.
  call('PERSIST', users_key)
end
if past_count > 0 then
  call('RENAME', staged_past, past_key)
  call('PERSIST', past_key)
end
if transfers_key then
  call('UNLINK', transfers_key)
  call('HSET', transfers_key, 'floor', epoch)
end
call('HSET', sale_key, 'epoch', epoch, unpack(ARGV, FIRST))
call('SET', stock_key, units)
-- From the first entry on; answers an error that changes nothing if the group exists.
redis.pcall('XGROUP', 'CREATE', outbox_key, 'relay', '0', 'MKSTREAM')
call('PUBLISH', string.match(sale_key, '^[^:]+') .. ':notices', sku)
return {1, tonumber(epoch)}
