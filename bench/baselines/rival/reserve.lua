-- Decides one attempt to buy one sku, as reserve.lua of inventory_svc decides a batch of one.
--
-- KEYS[1]  rival:sale:{sku}   hash: state, start_ms, end_ms, limit, epoch
-- KEYS[2]  rival:stock:{sku}  string: units nobody holds
-- KEYS[3]  rival:users:{sku}  hash: user -> hold "order_no quantity request_id"
-- KEYS[4]  rival:queue:{sku}  stream: the outbox
-- ARGV     sku, most outbox entries, user_id, request_id, quantity, order_no
--
-- Reply: code (as PurchaseOutcome; -1 not loaded, -2 backlog full), order number.
local sale = redis.call('HMGET', KEYS[1], 'state', 'start_ms', 'end_ms', 'limit', 'epoch')
local stock = tonumber(redis.call('GET', KEYS[2]))
if not sale[1] or not stock then
  return {-1, ''}
end
if redis.call('XLEN', KEYS[4]) >= tonumber(ARGV[2]) then
  return {-2, ''}
end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local hold = redis.call('HGET', KEYS[3], ARGV[3])
if hold then
  local held_no, held_request = string.match(hold, '^(%S+) %d+ (%S+)$')
  if held_request == ARGV[4] then
    return {1, held_no}
  end
  return {3, held_no}
end
local quantity = tonumber(ARGV[5])
if sale[1] == 'closed' or now_ms >= tonumber(sale[3]) then
  return {5, ''}
elseif now_ms < tonumber(sale[2]) then
  return {4, ''}
elseif sale[1] == 'paused' then
  return {6, ''}
elseif quantity > tonumber(sale[4]) then
  return {7, ''}
elseif quantity > stock then
  return {2, ''}
end
local head = ARGV[6] .. ' ' .. ARGV[5]
redis.call('XADD', KEYS[4], '*', 'o',
  head .. ' ' .. sale[5] .. ' ' .. string.format('%.0f', now_ms) .. ' ' .. ARGV[4] .. ' ' .. ARGV[3])
redis.call('HSET', KEYS[3], ARGV[3], head .. ' ' .. ARGV[4])
if redis.call('DECRBY', KEYS[2], quantity) == 0 then
  redis.call('PUBLISH', 'rival:notices', ARGV[1])
end
return {1, ARGV[6]}
