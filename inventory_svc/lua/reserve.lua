-- Decides a batch of attempts to buy one sku, in the order given. A request that was reserved
-- before gets the same answer again, also after the sale has ended, and after its buyer has bought
-- again: with its hold, or with one of their 8 holds before that.
--
-- KEYS[1]  seckill:sale:{sku}   hash: state, start_ms, end_ms, limit, rebuy, epoch, ...
-- KEYS[2]  seckill:stock:{sku}  string: units that are not held
-- KEYS[3]  seckill:users:{sku}  hash: user -> hold "order_no quantity request_id", with a leading
--                               "-" once released; its quantity starts with "0" if the order was
--                               rejected (grammar: inventory_svc/stock/hold.py)
-- KEYS[4]  seckill:outbox:{sku}  stream: the outbox; an entry's field b is "epoch reserve_ms call_id",
--                               then a line "order_no quantity request_id user_id" for each reservation;
--                               its field t, which few have, the traceparent of the call
-- KEYS[5]  seckill:backlog:{sku}  hash: entries and reservations that were in the outbox when it
--                               was last counted
-- KEYS[6]  seckill:past:{sku}  hash: user -> the holds that a later one has replaced, at most 8,
--                              the latest first, without "-", separated by spaces
-- ARGV[1]  sku, for the notice
-- ARGV[2]  reservations in the outbox, before this batch, at which a batch is refused
-- ARGV[3]  id of the call, as log lines have it; '' if it has none; of a call that is traced a space
--          and its traceparent behind it
-- ARGV[4...] four for each attempt, at most 1,024 attempts: user_id, request_id, quantity
--            (units, at least 1), order_no to use if it is reserved (26 characters)
--
-- Reply: flat array. First the batch's status: 0 decided, -1 not loaded, -2 backlog full; nothing
-- follows a negative status. Then the units that are not held after the batch. Then two for each
-- attempt: its code and an order number ('' if none).
-- Codes: 1 reserved, 2 sold out, 3 already purchased, 4 not started, 5 ended, 6 paused,
-- 7 bought and cancelled before, 8 more than the purchase limit, 9 the request was reserved with
-- another quantity.
--
-- All that can fail is read before the first write: a key of the wrong type ends the script with
-- nothing written. The batch's reservations become one outbox entry. Publishes the sku on
-- seckill:notices when the last unit goes.

local sale_key, stock_key, users_key, outbox_key, backlog_key, past_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local sku, backlog_max, call_id, trace = ARGV[1], tonumber(ARGV[2]), string.match(ARGV[3], '^(%S*) ?(%S*)$')
local FIRST, WIDTH = 4, 4
local DECIDED, NOT_LOADED, BACKLOG_FULL = 0, -1, -2
local RESERVED, SOLD_OUT, ALREADY_PURCHASED, NOT_STARTED = 1, 2, 3, 4
local ENDED, PAUSED, CANCELLED_BEFORE, OVER_LIMIT, OTHER_QUANTITY = 5, 6, 7, 8, 9
local PAST_MAX = 8

local call = redis.call
local sale = call('HMGET', sale_key, 'state', 'start_ms', 'end_ms', 'limit', 'rebuy', 'epoch')
local stock = tonumber(call('GET', stock_key))
if not sale[1] or not stock or stock % 1 ~= 0 then
  return {NOT_LOADED}
end
local length, counted = call('XLEN', outbox_key), call('HMGET', backlog_key, 'entries', 'reservations')
local entries, reservations = 0, 0
if length > 0 then
  local known = tonumber(counted[1] or 0)
  -- Entries that were added without being counted have one reservation each; those that were removed
  -- without it had at least one each, until remove.lua has counted again.
  entries = math.max(length, known)
  reservations = tonumber(counted[2] or 0) + entries - known
end
if reservations - (entries - length) >= backlog_max then
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

local users = {}
for at = FIRST, #ARGV, WIDTH do
  users[#users + 1] = ARGV[at]
end
-- 1,024 users, and below 2,048 values, fit what unpack may put on the stack (8,000).
local holds = call('HMGET', users_key, unpack(users))

local reply, made, writes = {DECIDED, 0}, {}, {}
local lines = {sale[6] .. ' ' .. string.format('%.0f', now_ms) .. ' ' .. call_id}
local left = stock
local filled, written, queued = 2, 0, 0
local match, sub = string.match, string.sub

-- Few buyers have bought twice, and in most sales none: one EXISTS tells, if it is asked at all.
local past, past_writes, any_past = {}, {}
local function past_of(user)
  past[user] = past[user] or call('HGET', past_key, user) or ''
  return past[user]
end

-- What an earlier request of the buyer was told: its order's number and quantity, if it is known.
local function told_before(user, request)
  for order_no, quantity, earlier in string.gmatch(past_of(user), '(%S+) (%d+) (%S+)') do
    if earlier == request then
      return order_no, quantity
    end
  end
end

local function keep_past(user, replaced)
  local kept, count = {replaced}, 1
  for hold in string.gmatch(past_of(user), '%S+ %d+ %S+') do
    if count == PAST_MAX then
      break
    end
    count = count + 1
    kept[count] = hold
  end
  past[user] = table.concat(kept, ' ')
  past_writes[#past_writes + 1] = user
  any_past = true
end

local at = FIRST
for n = 1, #users do
  local user, request, quantity_text = users[n], ARGV[at + 1], ARGV[at + 2]
  local hold = made[user] or holds[n]
  local code, order_no
  if hold then
    -- Four cases in which the buyer's hold decides, before stock or window is looked at:
    -- 1. It was made by this very request: the same answer, live or released, sale over or not. A
    --    caller whose first reply was lost must not learn less than the first time. But the units
    --    must be the same: another quantity is another request.
    -- 2. An earlier hold was, and the buyer has bought again since: likewise.
    -- 3. It is live and of another request: one order for each buyer, and this is its number.
    -- 4. It was released, and the sale does not let a buyer buy again. Once the window is closed
    --    the buyer is told that instead, as all buyers are.
    -- A released hold decides nothing if the sale allows buying again, or if its order was rejected,
    -- which was not the buyer's doing: a new hold replaces it.
    local held_no, held_quantity, held_request = match(hold, '^%-?(%S+) (%d+) (%S+)$')
    local told_no, told_quantity = held_no, held_quantity
    if held_request ~= request then
      told_no = nil
      if any_past == nil then
        any_past = call('EXISTS', past_key) == 1
      end
      if any_past then
        told_no, told_quantity = told_before(user, request)
      end
    end
    if told_no then
      if tonumber(told_quantity) == tonumber(quantity_text) then
        code, order_no = RESERVED, told_no
      else
        code = OTHER_QUANTITY
      end
    elseif sub(hold, 1, 1) ~= '-' then
      code, order_no = ALREADY_PURCHASED, held_no
    elseif not rebuy and not closed_code and sub(held_quantity, 1, 1) ~= '0' then
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
      local new_hold = order_no .. ' ' .. quantity_text .. ' ' .. request
      if hold then
        keep_past(user, sub(hold, 2))
      end
      made[user] = new_hold
      writes[written + 1], writes[written + 2] = user, new_hold
      written = written + 2
      queued = queued + 1
      lines[queued + 1] = new_hold .. ' ' .. user
    end
  end
  reply[filled + 1], reply[filled + 2] = code, order_no or ''
  filled = filled + 2
  at = at + WIDTH
end

if queued > 0 then
  local fields = {'b', table.concat(lines, '\n')}
  if trace ~= '' then
    fields[3], fields[4] = 't', trace
  end
  call('XADD', outbox_key, '*', unpack(fields))
  call('HSET', backlog_key, 'entries', entries + 1, 'reservations', reservations + queued)
  call('HSET', users_key, unpack(writes))
  for n = 1, #past_writes do
    call('HSET', past_key, past_writes[n], past[past_writes[n]])
  end
  call('DECRBY', stock_key, stock - left)
  if left == 0 then
    call('PUBLISH', string.match(sale_key, '^[^:]+') .. ':notices', sku)
  end
end
reply[2] = left
return reply
