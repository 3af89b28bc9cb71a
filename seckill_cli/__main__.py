"""`python -m seckill_cli`: the `seckill` command without its script."""

from seckill_cli import main

main()
