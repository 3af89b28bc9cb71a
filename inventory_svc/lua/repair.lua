-- Brings holds, outbox and stock of one sku into line with what the reconciler found. What has
-- changed since it looked is left alone.
--
-- KEYS[1]  seckill:sale:{sku}   hash: epoch, repairs (how many were made under this epoch)
-- KEYS[2]  seckill:stock:{sku}  string: units that are not held
-- KEYS[3]  seckill:users:{sku}  hash: user -> hold "order_no quantity request_id", with a leading
--                               "-" once released, and a "0" before the quantity if the order was
--                               rejected (grammar: inventory_svc/stock/hold.py)
-- KEYS[4]  seckill:outbox:{sku}  stream: the outbox, as reserve.lua writes it
-- KEYS[5]  seckill:backlog:{sku}  hash: entries and reservations in it, as reserve.lua counts them
-- ARGV[1]  sku, for the notice
-- ARGV[2]  epoch that the reconciler saw
-- ARGV[3]  repairs that the reconciler saw
-- ARGV[4]  units that it saw on sale and held beyond the total; negative if there were too few. No
--          reservation and no release changes that number
-- ARGV[5]  1 if the stock may go up by more than what is released here, else 0
-- ARGV[6]  id of the call, as log lines have it; '' if it has none
-- ARGV[7...] three for each hold, at most 1,024 holds: what to do, user, hold. write: if the buyer
--            has no live one. send: to Kafka once more, while the hold stands. release: while it
--            stands. reject: the same, of an order that does not count against its buyer
--
-- Reply: flat array of integers. First the status: 0 done, -1 not loaded, -2 the sale was loaded or
-- repaired since; nothing follows a negative status. Then what was added to the stock, then 1 or 0
-- for each hold: whether something was done.
--
-- If anything was done it counts as one repair, and the sku is published on seckill:notices.

local sale_key, stock_key, users_key, outbox_key, backlog_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local sku, epoch, repairs, surplus, restock, call_id = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
surplus, restock = tonumber(surplus), restock == '1'
local FIRST, WIDTH = 7, 3
local DONE, NOT_LOADED, OVERTAKEN = 0, -1, -2

local call = redis.call
local sale = call('HMGET', sale_key, 'state', 'epoch', 'repairs')
local stock = tonumber(call('GET', stock_key))
if not sale[1] or not stock or stock % 1 ~= 0 then
  return {NOT_LOADED}
end
if sale[2] ~= epoch or (sale[3] or '0') ~= repairs then
  return {OVERTAKEN}
end
-- Both fail on a key of the wrong type, before anything is written.
local length, counted = call('XLEN', outbox_key), call('HMGET', backlog_key, 'entries', 'reservations')

local users = {}
for at = FIRST, #ARGV, WIDTH do
  users[#users + 1] = ARGV[at + 1]
end
-- 1,024 users, and 2,048 values, fit what unpack may put on the stack (8,000).
local holds = #users > 0 and call('HMGET', users_key, unpack(users)) or {}
local time = call('TIME')
local now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))

local reply, writes, lines = {DONE, 0}, {}, {}
local released = 0
local function write(user, hold)
  writes[#writes + 1] = user
  writes[#writes + 1] = hold
end
for n = 1, #users do
  local at = FIRST + (n - 1) * WIDTH
  local task, user, hold, found = ARGV[at], users[n], ARGV[at + 2], holds[n]
  local quantity = string.match(hold, '^%S+ (%d+) %S+$')
  local done = 1
  if task == 'write' and (not found or string.sub(found, 1, 1) == '-') then
    write(user, hold)
    surplus = surplus + tonumber(quantity)
  elseif task == 'send' and found == hold then
    lines[#lines + 1] = hold .. ' ' .. user
  elseif (task == 'release' or task == 'reject') and found == hold then
    write(user, '-' .. (task == 'reject' and string.gsub(hold, ' ', ' 0', 1) or hold))
    surplus = surplus - tonumber(quantity)
    released = released + tonumber(quantity)
  else
    done = 0
  end
  reply[n + 2] = done
end

if #lines > 0 then
  local head = epoch .. ' ' .. now_ms .. ' ' .. call_id
  call('XADD', outbox_key, '*', 'b', head .. '\n' .. table.concat(lines, '\n'))
  local entries, reservations = 0, 0
  if length > 0 then
    local known = tonumber(counted[1] or 0)
    entries = math.max(length, known)
    reservations = tonumber(counted[2] or 0) + entries - known
  end
  call('HSET', backlog_key, 'entries', entries + 1, 'reservations', reservations + #lines)
end
if #writes > 0 then
  call('HSET', users_key, unpack(writes))
end
-- Units that neither a hold nor a release accounts for come from nowhere, and stay off sale.
local change = restock and -surplus or math.min(-surplus, released)
if change ~= 0 then
  reply[2] = change
  call('INCRBY', stock_key, change)
end
if #lines > 0 or #writes > 0 or reply[2] ~= 0 then
  call('HINCRBY', sale_key, 'repairs', 1)
  call('PUBLISH', string.match(sale_key, '^[^:]+') .. ':notices', sku)
end
return reply
