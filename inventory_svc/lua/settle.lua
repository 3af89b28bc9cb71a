-- Takes a transfer off the record of the bucket that lent: the other one has its units. Loaded with
-- allow-oom, as the scripts before it.
--
-- KEYS[1]  seckill:sale:{tag}       hash of the bucket that lent: epoch, ...
-- KEYS[2]  seckill:transfers:{tag}  hash: "out:<bucket>" -> "number units", as lend.lua writes it
-- ARGV[1]  bucket that borrowed
-- ARGV[2]  epoch of the sale
-- ARGV[3]  number of the transfer
--
-- Reply: array of one integer: 1 settled now, 0 settled before, or the sale was loaded since.

local sale_key, transfers_key = KEYS[1], KEYS[2]
local borrower, epoch, number = ARGV[1], ARGV[2], ARGV[3]

local call = redis.call
local field = 'out:' .. borrower
local known, units = string.match(call('HGET', transfers_key, field) or '0 0', '^(%d+) (%d+)$')
if call('HGET', sale_key, 'epoch') ~= epoch or known ~= number or units == '0' then
  return {0}
end
call('HSET', transfers_key, field, number .. ' 0')
return {1}
