"""`seckill demo`: a whole sale on real servers, with an independent verdict."""
