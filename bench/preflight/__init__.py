"""The forecast of `seckill preflight`, compared with what a real run then reaches."""
