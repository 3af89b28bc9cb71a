-- The same bound as in seckill/buckets.py.
ALTER TABLE sales ADD COLUMN buckets int NOT NULL DEFAULT 1 CHECK (buckets BETWEEN 1 AND 64);
COMMENT ON COLUMN sales.buckets IS
    'Buckets that the stock of the sale is spread over in Redis; as registered, for good.';
