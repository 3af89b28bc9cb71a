-- Brings holds, outbox and stock of one sku into line with what the reconciler found. What has
-- changed since it looked is left alone.
--
-- KEYS[1]  seckill:sale:{sku}   hash: epoch, repairs (how many were made under this epoch)
-- KEYS[2]  seckill:stock:{sku}  string: units nobody holds
-- KEYS[3]  seckill:users:{sku}  hash: user -> hold "order_no quantity request_id", where a
--                               leading "-" marks a hold that was released
-- KEYS[4]  seckill:queue:{sku}  stream: the outbox, as reserve.lua writes it
-- ARGV[1]  sku, for the notice
-- ARGV[2]  epoch that the reconciler saw
-- ARGV[3]  repairs that the reconciler saw
-- ARGV[4]  units that it saw on sale and held beyond the total; negative if there were too few. No
--          reservation and no release changes that number
-- ARGV[5]  1 if the stock may go up too, else 0
-- ARGV[6...] three for each hold, at most 1,024 holds: what to do, user, hold. write: where the buyer
--            has no live one. send: to Kafka once more, while the hold stands. release: while it
--            stands, and only with ARGV[5]
--
-- Reply: flat array of integers. First the status: 0 done, -1 not loaded, -2 the sale was loaded or
-- repaired since; nothing follows a negative status. Then what was added to the stock, then 1 or 0
-- for each hold: whether something was done.
--
-- Publishes the sku on seckill:notices.

local sale_key, stock_key, users_key, queue_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local sku, epoch, repairs, surplus, restock = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
surplus, restock = tonumber(surplus), restock == '1'
local FIRST, WIDTH = 6, 3
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
-- Fails on a key of the wrong type, before anything is written.
call('XLEN', queue_key)

local users = {}
for at = FIRST, #ARGV, WIDTH do
  users[#users + 1] = ARGV[at + 1]
end
-- 1,024 users, and 2,048 values, fit what unpack may put on the stack (8,000).
local holds = #users > 0 and call('HMGET', users_key, unpack(users)) or {}
local time = call('TIME')
local now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))

local reply, writes, entries = {DONE, 0}, {}, {}
local function write(user, hold)
  writes[#writes + 1] = user
  writes[#writes + 1] = hold
end
for n = 1, #users do
  local at = FIRST + (n - 1) * WIDTH
  local task, user, hold, found = ARGV[at], users[n], ARGV[at + 2], holds[n]
  local order_no, quantity, request = string.match(hold, '^(%S+) (%d+) (%S+)$')
  local done = 1
  if task == 'write' and (not found or string.sub(found, 1, 1) == '-') then
    write(user, hold)
    surplus = surplus + tonumber(quantity)
  elseif task == 'send' and found == hold then
    entries[#entries + 1] = table.concat({order_no, quantity, epoch, now_ms, request, user}, ' ')
  elseif task == 'release' and restock and found == hold then
    write(user, '-' .. hold)
    surplus = surplus - tonumber(quantity)
  else
    done = 0
  end
  reply[n + 2] = done
end

for n = 1, #entries do
  call('XADD', queue_key, '*', 'o', entries[n])
end
if #writes > 0 then
  call('HSET', users_key, unpack(writes))
end
if surplus > 0 or restock and surplus < 0 then
  reply[2] = -surplus
  call('DECRBY', stock_key, surplus)
end
call('HINCRBY', sale_key, 'repairs', 1)
call('PUBLISH', 'seckill:notices', sku)
return reply
