"""`seckill limits`, `seckill list`, `seckill policy`: the rules of the gate."""
