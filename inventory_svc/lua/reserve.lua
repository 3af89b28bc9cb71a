-- Decides a batch of attempts to buy one sku, in the order given. A request decided before gets
-- its first answer again, also when the sale has ended since.
--
-- KEYS[1]  seckill:sale:{sku}   hash: state, start_ms, end_ms, limit, rebuy, epoch, ...
-- KEYS[2]  seckill:stock:{sku}  string: units nobody holds
-- KEYS[3]  seckill:users:{sku}  hash: user -> hold "order_no quantity request_id", where a
--                               leading "-" marks a hold that was released
-- KEYS[4]  seckill:queue:{sku}  stream: the outbox, field o =
--                               "order_no quantity epoch reserve_ms request_id user_id"
-- ARGV[1]  sku, for the notice
-- ARGV[2]  most outbox entries, before this batch, at which a batch is still decided
-- ARGV[3...] four for each attempt, at most 1,024 attempts: user_id, request_id, quantity
--            (units, at least 1), order_no to use if it is reserved (26 characters)
--
-- Reply: flat array. First the batch's status: 0 decided, -1 not loaded, -2 backlog full; nothing
-- follows a negative status. Then two for each attempt: its code and an order number ('' if none).
-- Codes: 1 reserved, 2 sold out, 3 already purchased, 4 not started, 5 ended, 6 paused,
-- 7 bought and cancelled before, 8 more than the purchase limit.
--
-- Whatever can fail is read before the first write: a key of the wrong type ends the script with
-- nothing written. Publishes the sku on seckill:notices when the last unit goes.

local sale_key, stock_key, users_key, queue_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local sku, backlog_max = ARGV[1], tonumber(ARGV[2])
local FIRST, WIDTH = 3, 4
local DECIDED, NOT_LOADED, BACKLOG_FULL = 0, -1, -2
local RESERVED, SOLD_OUT, ALREADY_PURCHASED, NOT_STARTED = 1, 2, 3, 4
local ENDED, PAUSED, CANCELLED_BEFORE, OVER_LIMIT = 5, 6, 7, 8

local call = redis.call
local sale = call('HMGET', sale_key, 'state', 'start_ms', 'end_ms', 'limit', 'rebuy', 'epoch')
local stock = tonumber(call('GET', stock_key))
if not sale[1] or not stock or stock % 1 ~= 0 then
  return {NOT_LOADED}
end
if call('XLEN', queue_key) >= backlog_max then
  return {BACKLOG_FULL}
end

local time = call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local closed_code
if sale[1] == 'closed' or now_ms >= tonumber(sale[3]) then
  closed_code = ENDED
elseif now_ms < tonumber(sale[2]) then
  closed_code = NOT_STARTED
elseif sale[1] == 'paused' then
  closed_code = PAUSED
end
local limit, rebuy = tonumber(sale[4]), sale[5] == '1'
local entry_middle = ' ' .. sale[6] .. ' ' .. string.format('%.0f', now_ms) .. ' '

local users = {}
for at = FIRST, #ARGV, WIDTH do
  users[#users + 1] = ARGV[at]
end
-- 1,024 users, and below 2,048 values, fit what unpack may put on the stack (8,000).
local holds = call('HMGET', users_key, unpack(users))

local reply, made, writes, entries = {DECIDED}, {}, {}, {}
local left = stock
local filled, written, queued = 1, 0, 0
local match, sub = string.match, string.sub
local at = FIRST
for n = 1, #users do
  local user, request, quantity_text = users[n], ARGV[at + 1], ARGV[at + 2]
  local hold = made[user] or holds[n]
  local code, order_no
  if hold then
    local held_no, held_request = match(hold, '^%-?(%S+) %d+ (%S+)$')
    if held_request == request then
      code, order_no = RESERVED, held_no
    elseif sub(hold, 1, 1) ~= '-' then
      code, order_no = ALREADY_PURCHASED, held_no
    elseif not rebuy and not closed_code then
      code = CANCELLED_BEFORE
    end
  end
  if not code then
    local quantity = tonumber(quantity_text)
    if closed_code then
      code = closed_code
    elseif quantity > limit then
      code = OVER_LIMIT
    elseif quantity > left then
      code = SOLD_OUT
    else
      code, order_no = RESERVED, ARGV[at + 3]
      left = left - quantity
      local head = order_no .. ' ' .. quantity_text
      local new_hold = head .. ' ' .. request
      made[user] = new_hold
      writes[written + 1], writes[written + 2] = user, new_hold
      written = written + 2
      queued = queued + 1
      entries[queued] = head .. entry_middle .. request .. ' ' .. user
    end
  end
  reply[filled + 1], reply[filled + 2] = code, order_no or ''
  filled = filled + 2
  at = at + WIDTH
end

if queued > 0 then
  for n = 1, queued do
    call('XADD', queue_key, '*', 'o', entries[n])
  end
  call('HSET', users_key, unpack(writes))
  call('DECRBY', stock_key, stock - left)
  if left == 0 then
    call('PUBLISH', 'seckill:notices', sku)
  end
end
return reply
