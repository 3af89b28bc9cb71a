-- Changes what operators may change of a sale: its state, its start and its end. Loaded with
-- allow-oom, so that a sale can be paused and closed while Redis is full.
--
-- KEYS[1]  seckill:sale:{sku}  hash: state, start_ms, end_ms, revision, ...
-- KEYS[2]  seckill:stock:{sku}  string: units that are not held
-- ARGV[1]  sku, for the notice
-- ARGV[2]  1 to change it, 0 to find out whether it could be changed
-- ARGV[3...] field and value in turn: state, start_ms or end_ms, with what it shall be
--
-- Reply: array. First an integer: 0 done, -1 not loaded, -2 closed for good, -3 the end would not be
-- after the start; nothing is changed and nothing follows if it is negative. Then the hash as HGETALL
-- has it now, and the units.
--
-- A closed sale may be closed again, which changes nothing: the first answer may have been lost. So it
-- is with all that is as it shall be. A change raises the revision by one and is published on
-- seckill:notices.

local sale_key, stock_key = KEYS[1], KEYS[2]
local sku, apply = ARGV[1], ARGV[2] == '1'
local FIRST, WIDTH = 3, 2
local DONE, NOT_LOADED, CLOSED, NO_WINDOW = 0, -1, -2, -3

local call = redis.call
local found = call('HMGET', sale_key, 'state', 'start_ms', 'end_ms')
local stock = call('GET', stock_key)
if not found[1] or not stock then
  return {NOT_LOADED}
end
local known = {state = found[1], start_ms = found[2], end_ms = found[3]}
local given, count, writes = {}, 0, {}
for at = FIRST, #ARGV, WIDTH do
  local field, value = ARGV[at], ARGV[at + 1]
  given[field], count = value, count + 1
  if known[field] ~= value then
    writes[#writes + 1], writes[#writes + 2] = field, value
  end
end
local closed = found[1] == 'closed'
if closed and not (count == 0 or given.state == 'closed' and count == 1) then
  return {CLOSED}
end
if tonumber(given.end_ms or found[3]) <= tonumber(given.start_ms or found[2]) then
  return {NO_WINDOW}
end
if apply and #writes > 0 then
  call('HSET', sale_key, unpack(writes))
  call('HINCRBY', sale_key, 'revision', 1)
  call('PUBLISH', string.match(sale_key, '^[^:]+') .. ':notices', sku)
end
return {DONE, call('HGETALL', sale_key), stock}
