"""`python -m seckill`: the `seckill` command without its script."""

from seckill.cli import main

main()
