-- Loads a sale: its terms, its stock, and (when it is rebuilt) the holds of its live orders.
-- Never touches a sale that is loaded under this epoch or a later one.
--
-- KEYS[1]  seckill:sale:{sku}   hash: the sale's terms, state and epoch
-- KEYS[2]  seckill:stock:{sku}  string: units nobody holds
-- KEYS[3]  seckill:users:{sku}  hash: user -> hold
-- KEYS[4]  seckill:queue:{sku}  stream: the outbox; kept, whatever is in it
-- ARGV[1]  sku, for the notice
-- ARGV[2]  epoch to load under, at least 1
-- ARGV[3]  units nobody holds, at least 0
-- ARGV[4]  how many of the following arguments belong to the sale's hash
-- ARGV[5...] field and value of the sale's hash in turn (epoch is added here), then user and hold
--            in turn
--
-- Reply: array of two integers: 1 if it was loaded now, else 0; the epoch it is loaded under.
--
-- Publishes the sku on seckill:notices when it was loaded.

local sale_key, stock_key, users_key, queue_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local sku, epoch, units, sale_length = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local FIRST = 5
-- Values to one HSET: even, and far below what unpack may put on the stack (8,000).
local CHUNK = 1000

local call = redis.call
local loaded_epoch = tonumber(call('HGET', sale_key, 'epoch'))
local stock = call('GET', stock_key)
if loaded_epoch and stock and loaded_epoch >= tonumber(epoch) then
  return {0, loaded_epoch}
end
-- Both fail on a key of the wrong type, before anything is written.
call('HLEN', users_key)
call('XLEN', queue_key)

call('DEL', sale_key, stock_key, users_key)
call('HSET', sale_key, 'epoch', epoch, unpack(ARGV, FIRST, FIRST + sale_length - 1))
call('SET', stock_key, units)
for at = FIRST + sale_length, #ARGV, CHUNK do
  call('HSET', users_key, unpack(ARGV, at, math.min(at + CHUNK - 1, #ARGV)))
end
-- From the first entry on; answers an error that changes nothing where the group exists.
redis.pcall('XGROUP', 'CREATE', queue_key, 'relay', '0', 'MKSTREAM')
call('PUBLISH', 'seckill:notices', sku)
return {1, tonumber(epoch)}
