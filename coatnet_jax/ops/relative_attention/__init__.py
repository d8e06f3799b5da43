"""Self-attention over a 2-D grid with a learned bias per relative offset.

`relative_attention` is the one function that others call (`attention.py`). It
chooses between:

    definition.py   Equation 3 of the paper, word for word
    xla.py          products and a softmax that XLA compiles, for every platform
    pallas/         a kernel for TPUs
    cudnn.py        cuDNN's fused attention, for NVIDIA GPUs

The learned table of biases is expanded to pairs of tokens in `bias_table.py`,
and its gradient is folded back there; the kernel has a form of its own
(`pallas/layout.py`).
"""

from coatnet_jax.ops.relative_attention.attention import (
  IMPLEMENTATIONS,
  relative_attention,
)

__all__ = ['IMPLEMENTATIONS', 'relative_attention']
