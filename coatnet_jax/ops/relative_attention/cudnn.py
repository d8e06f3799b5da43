"""Relative attention by cuDNN's fused attention, on an NVIDIA GPU.

JAX binds it, and differentiates it. This project has not run it.
"""

import jax

from coatnet_jax.ops.relative_attention.bias_table import expand_bias_table
from coatnet_jax.ops.relative_attention.definition import Operands


def attend_with_cudnn(
  operands: Operands, *, grid: tuple[int, int], scale: float
) -> jax.Array:
  """Computes attention, [B, N, heads, head_dim] in bfloat16 or float16.

  Arguments and result are those of `attend_by_definition`.

  Raises:
    ValueError: there is no cuDNN, or none that takes these arrays.
  """
  q, k, v, bias_table = operands
  bias = None
  if bias_table is not None:
    bias = expand_bias_table(bias_table, grid).astype(q.dtype)[None]
  try:
    return jax.nn.dot_product_attention(
      q, k, v, bias, scale=scale, implementation='cudnn'
    )
  except RuntimeError as error:
    raise ValueError(
      "implementation='cudnn' does not work here; use implementation='auto' or"
      f" 'xla'. The reason: {error}"
    ) from error
