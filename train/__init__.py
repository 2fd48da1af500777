"""The effects: everything that touches disk, clock, devices or argv."""

from train.heap import keep_heap

# Here, since it has to come before the first computation of any program.
keep_heap()
