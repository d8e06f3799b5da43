"""Relative attention's kernel for TPUs, from the outside in.

    per_shard.py         the attention of each device's part of a mesh
    calls.py             the two Pallas calls: grids, blocks, scratch memory
    layout.py            the arrays as the kernels read them
    blocks.py            how a grid of tokens is divided, in plain integers
    forward_kernel.py    one step of the forward pass, in VMEM
    backward_kernel.py   one step of the backward pass
    units.py             what both are made of

`docs/attention.md` says why it is fast, and how fast.
"""
