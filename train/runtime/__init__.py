"""How training runs: steps, devices, checkpoints, logs."""
