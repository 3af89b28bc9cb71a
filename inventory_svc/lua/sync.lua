-- Brings a loaded sale up to what the database has on record of it: total, title and price, state and
-- window. Each of the three has a number that only grows, so a script that comes late or twice, or
-- before one that was sent earlier, changes nothing that is newer. If the server knows script flags
-- it is loaded with allow-oom, so that a full Redis can still be corrected.
--
-- KEYS[1]  seckill:sale:{sku}   hash: the sale; missing while it is not loaded
-- KEYS[2]  seckill:stock:{sku}  string: units that are not held; grows by what the total grows, with
--                               ARGV[12]
-- ARGV[1]  sku, for the notice
-- ARGV[2]  total: units for sale, which never fall
-- ARGV[3]  how often title or price were changed
-- ARGV[4]  title
-- ARGV[5]  currency of the price
-- ARGV[6]  price of one unit, minor units
-- ARGV[7]  revision of state and window that is on record, 0 if they were never changed
-- ARGV[8]  state on record: open, paused or closed
-- ARGV[9]  start on record, Unix ms
-- ARGV[10] end on record, Unix ms
-- ARGV[11] 1 if state and window in Redis are newer although their revision is not higher: Redis has
--          lost changes, and was changed since. They get a revision above the record's. Else 0
-- ARGV[12] 1 if added units come to this stock, 0 if this is another bucket of the sale
--
-- Reply: array of three integers. The status: 0 done, -1 not loaded; what was changed: the sum of 1
-- total, 2 title and price, 4 state and window or their revision; the revision now in force. With a
-- negative status the other two are 0.
--
-- A sale that is closed stays closed, whatever is on record. Publishes the sku on seckill:notices if
-- anything was changed.

local sale_key, stock_key = KEYS[1], KEYS[2]
local sku, total, terms_revision, title, currency, price, revision, state, start_ms, end_ms, is_newer_here, takes_units = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11] == '1', ARGV[12] == '1'
local DONE, NOT_LOADED = 0, -1
local TOTAL, TERMS, SCHEDULE = 1, 2, 4

local call = redis.call
local sale = call('HMGET', sale_key, 'state', 'total', 'terms_revision', 'revision')
local stock, known_total = tonumber(call('GET', stock_key)), tonumber(sale[2])
if not sale[1] or not known_total or not stock or stock % 1 ~= 0 then
  return {NOT_LOADED, 0, 0}
end
local known_terms, known_revision = tonumber(sale[3] or 0), tonumber(sale[4] or 0)
local added, record_revision = total - known_total, tonumber(revision)

local changed = 0
if added > 0 then
  if takes_units then
    call('INCRBY', stock_key, added)
  end
  call('HSET', sale_key, 'total', total)
  changed = changed + TOTAL
end
if tonumber(terms_revision) > known_terms then
  call('HSET', sale_key, 'terms_revision', terms_revision, 'title', title, 'currency', currency, 'price', price)
  changed = changed + TERMS
end
if is_newer_here or (sale[1] == 'closed' and state ~= 'closed') then
  if record_revision >= known_revision then
    known_revision = record_revision + 1
    call('HSET', sale_key, 'revision', string.format('%.0f', known_revision))
    changed = changed + SCHEDULE
  end
elseif record_revision > known_revision then
  known_revision = record_revision
  call('HSET', sale_key, 'revision', revision, 'state', state, 'start_ms', start_ms, 'end_ms', end_ms)
  changed = changed + SCHEDULE
end
if changed > 0 then
  call('PUBLISH', string.match(sale_key, '^[^:]+') .. ':notices', sku)
end
return {DONE, changed, known_revision}
