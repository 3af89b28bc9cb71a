"""The scale model (seckill_cli/scale): checked by real runs, then asked about larger meshes."""
