"""Relative attention: what is asked for, and which implementation computes it.

Not here: the implementations themselves, which the package's docstring lists,
and the projections around attention (`models/transformer.py`).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from coatnet_jax.errors import explain_choice
from coatnet_jax.ops.relative_attention.cudnn import attend_with_cudnn
from coatnet_jax.ops.relative_attention.definition import (
  Operands,
  Residuals,
  attend_by_definition,
)
from coatnet_jax.ops.relative_attention.pallas import per_shard
from coatnet_jax.ops.relative_attention.xla import (
  attend_with_xla,
  differentiate_with_xla,
)
from coatnet_jax.ops.rematerialization import keep
from coatnet_jax.ops.tpu_only import call_tpu_only

IMPLEMENTATIONS = ('auto', 'reference', 'xla', 'pallas', 'cudnn')

_NO_KERNEL = (
  "implementation='pallas' is for TPUs, and this program is for another"
  " platform; use implementation='auto' or 'xla', or interpret=True to"
  ' interpret the kernel.'
)


def relative_attention(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  bias_table: jax.Array | None,
  *,
  grid: tuple[int, int],
  scale: float | None = None,
  implementation: str = 'auto',
  interpret: bool = False,
) -> jax.Array:
  """Computes softmax(scale * q k^T + bias) v, for each head.

  Equation 3 of the paper, pre-normalisation form: self-attention over a 2-D
  grid, with a learned bias per head and relative offset. Differentiable in q,
  k, v and bias_table, in reverse mode; 'reference' in forward mode, too.

  With a bias of the offset 1 alone, each of three tokens in a row reads the one
  before it, and the first, which has none, reads all:

  >>> q = k = jnp.zeros((1, 3, 1, 4))
  >>> v = jnp.array([1.0, 2.0, 6.0]).reshape(1, 3, 1, 1)
  >>> v = jnp.broadcast_to(v, k.shape)
  >>> table = jnp.array([[[0.0, 0.0, 0.0, 100.0, 0.0]]])  # Offsets -2 to 2.
  >>> out = relative_attention(q, k, v, table, grid=(1, 3))
  >>> out.shape, out[0, :, 0, 0].tolist()
  ((1, 3, 1, 4), [3.0, 1.0, 2.0])

  Args:
    q: [B, N, heads, head_dim], N = H*W tokens in row-major order; float32,
      bfloat16 or float16.
    k: [B, N, heads, head_dim] in q's dtype.
    v: [B, N, heads, head_dim] in q's dtype.
    bias_table: [heads, 2H-1, 2W-1], any float dtype, one scalar per head and
      relative offset: entry (i - i' + H-1, j - j' + W-1) is added to the logit
      of query (i, j) and key (i', j'). It is not scaled. None for no bias.
    grid: (H, W), the numbers of rows and columns of tokens.
    scale: factor of q k^T; 1 / sqrt(head_dim) if None.
    implementation: which form of the function is computed:
      'auto': 'pallas' on a TPU if it takes the head size and dtype, 'xla'
        elsewhere. Chosen by the platform that the program is lowered for, so
        that one program can be exported for several.
      'reference': the definition, differentiated by JAX.
      'xla': products and a softmax with their own backward pass, which
        computes the probabilities again. XLA:CPU keeps them all the same.
      'pallas': the TPU kernel. Head sizes 32, 64 and 128, float32 and bfloat16.
      'cudnn': `jax.nn.dot_product_attention` with the expanded bias, on an
        NVIDIA GPU; bfloat16 and float16. Run forward alone: docs/gpu.md.
    interpret: interprets the kernel of 'pallas' on any platform, slowly; for
      tests.

  Returns:
    [B, N, heads, head_dim] in q's dtype. Logits and softmax are float32.

  Raises:
    ValueError: shapes that disagree with each other or with the grid; a dtype,
      a head size or an implementation that is not among the above; 'pallas' or
      'cudnn' for a platform that has none. All of it when traced, but that of
      'pallas', when lowered: only then is the platform known.
  """
  q, k, v = (jnp.asarray(x) for x in (q, k, v))
  grid = (int(grid[0]), int(grid[1]))
  _check_tokens(q, k, v, grid)
  if bias_table is not None:
    _check_bias_table(bias_table, q, grid)
  _check_implementation(q, implementation, interpret)
  if scale is None:
    scale = q.shape[-1] ** -0.5
  if bias_table is not None:
    # Here, outside the rule below: so JAX gives its gradient the table's dtype.
    bias_table = jnp.asarray(bias_table, jnp.float32)
  operands = Operands(q, k, v, bias_table)
  with jax.named_scope('relative_attention'):
    if implementation == 'reference':
      return attend_by_definition(operands, grid=grid, scale=scale)
    if implementation == 'cudnn':
      return attend_with_cudnn(operands, grid=grid, scale=scale)
    if implementation == 'auto' and not per_shard.kernel_takes(q):
      implementation = 'xla'
    options = _Options(implementation, grid, float(scale), interpret)
    return _attend(operands, options)


class _Options(NamedTuple):
  """What is known of an attention when it is traced, beside its arrays.

  Hashable: `_bind_kernel` remembers by it.
  """

  implementation: str
  grid: tuple[int, int]
  scale: float
  interpret: bool


# One rule for 'xla' and the kernel, outside the choice between them: JAX cannot
# differentiate a kernel, and the platform is known only when both passes have
# been traced.
@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _attend(operands, options):
  return _attend_and_keep_residuals(operands, options)[0]


def _attend_and_keep_residuals(operands, options):
  """Returns the output and the residuals, the same in all implementations."""
  out, logsumexp = _run(
    options, attend_with_xla, per_shard.attend_with_kernel, operands
  )
  # Where blocks are recomputed these two are kept, or the backward pass would
  # first run the forward one again to have them.
  out, logsumexp = keep(out), keep(logsumexp)
  return out, Residuals(operands, out, logsumexp)


def _differentiate(options, residuals, grad):
  gradients = _run(
    options,
    differentiate_with_xla,
    per_shard.differentiate_with_kernel,
    *(residuals, grad),
  )
  return (gradients,)


_attend.defvjp(_attend_and_keep_residuals, _differentiate)


def _run(options, xla, kernel, *arguments):
  """Runs one of two functions, by implementation and platform."""
  xla = functools.partial(xla, grid=options.grid, scale=options.scale)
  kernel = _bind_kernel(kernel, options)
  if options.implementation == 'xla':
    return xla(*arguments)
  if options.interpret:
    return kernel(*arguments)
  if options.implementation == 'pallas':
    return call_tpu_only(kernel, *arguments, otherwise=_NO_KERNEL)
  # JAX lowers every branch for every platform; no other one takes a kernel.
  on_tpu = functools.partial(call_tpu_only, kernel)
  return lax.platform_dependent(*arguments, tpu=on_tpu, default=xla)


@functools.cache
def _bind_kernel(kernel, options):
  """Returns the kernel as a function of arrays.

  It is the same function for the same options, so that JAX traces it once for
  all equal blocks of a model.
  """
  return functools.partial(
    kernel,
    grid=options.grid,
    scale=options.scale,
    interpret=options.interpret,
  )


def _check_tokens(q, k, v, grid):
  height, width = grid
  if q.ndim != 4 or q.shape[1] != height * width:
    raise ValueError(
      f'q has shape {q.shape}; a grid of {height}x{width} needs'
      f' [B, {height * width}, heads, head_dim].'
    )
  if k.shape != q.shape or v.shape != q.shape:
    raise ValueError(
      f'q, k and v have the shapes {q.shape}, {k.shape} and {v.shape}; they'
      ' must have one.'
    )
  if q.dtype not in (jnp.float32, jnp.bfloat16, jnp.float16):
    raise ValueError(
      f'q is {q.dtype}; it must be float32, bfloat16 or float16.'
    )
  if k.dtype != q.dtype or v.dtype != q.dtype:
    raise ValueError(
      f'q, k and v are {q.dtype}, {k.dtype} and {v.dtype}; they must be of one'
      ' dtype.'
    )


def _check_bias_table(bias_table, q, grid):
  height, width = grid
  expected = (q.shape[2], 2 * height - 1, 2 * width - 1)
  if jnp.shape(bias_table) != expected:
    raise ValueError(
      f'The bias table has shape {jnp.shape(bias_table)}; {q.shape[2]} heads'
      f' on a grid of {height}x{width} need {expected}.'
    )
  dtype = jnp.result_type(bias_table)
  if not jnp.issubdtype(dtype, jnp.floating):
    raise ValueError(f'The bias is {dtype}; it must be of a float dtype.')


def _check_implementation(q, implementation, interpret):
  if implementation not in IMPLEMENTATIONS:
    raise ValueError(
      explain_choice('implementation', implementation, IMPLEMENTATIONS)
    )
  if interpret and implementation != 'pallas':
    raise ValueError(
      f'implementation is {implementation!r}; with interpret=True it must be'
      " 'pallas'."
    )
  if implementation == 'pallas' and not per_shard.kernel_takes(q):
    raise ValueError(
      f"implementation is 'pallas' and q has heads of {q.shape[-1]} channels in"
      f' {q.dtype}; it takes 32, 64 or 128 in float32 or bfloat16: use'
      " implementation='auto' or 'xla'."
    )
  if implementation == 'cudnn' and q.dtype == jnp.float32:
    raise ValueError(
      "implementation is 'cudnn' and q is float32; it takes bfloat16 and"
      " float16: use implementation='auto' or 'xla'."
    )
