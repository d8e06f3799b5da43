"""Self-attention over a 2-D grid with a learned bias per relative offset.

Equation 3 of the paper, pre-normalisation form: one function, several
implementations of it, and the choice between them. The plain form is here and
is the definition that every other one is compared with. Not here: the others
(`relative_attention_xla.py`, `relative_attention_pallas.py`), and the
projections around it (`models/transformer.py`).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from coatnet_jax.errors import explain_choice
from coatnet_jax.ops import relative_attention_pallas, relative_attention_xla
from coatnet_jax.ops.relative_bias import (
  ExpandedBias,
  collapse_bias,
  expand_bias_table,
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
  bias_table: jax.Array | ExpandedBias | None,
  *,
  grid: tuple[int, int],
  scale: float | None = None,
  implementation: str = 'auto',
  interpret: bool = False,
) -> jax.Array:
  """Computes softmax(scale * q k^T + bias) v, for each head.

  Equation 3 of the paper. Differentiable in q, k, v and bias_table, in reverse
  mode; 'reference' in forward mode, too.

  >>> q = jax.random.normal(jax.random.key(0), (1, 4, 2, 8))  # 2 heads of 8.
  >>> table = jnp.zeros((2, 3, 3))  # A bias for each offset on a grid of 2x2.
  >>> relative_attention(q, q, q, table, grid=(2, 2)).shape
  (1, 4, 2, 8)

  Args:
    q: [B, N, heads, head_dim], N = H*W tokens in row-major order; float32,
      bfloat16 or float16.
    k: [B, N, heads, head_dim] in q's dtype.
    v: [B, N, heads, head_dim] in q's dtype.
    bias_table: [heads, 2H-1, 2W-1], any float dtype, one scalar per head and
      relative offset: entry (i - i' + H-1, j - j' + W-1) is added to the logit
      of query (i, j) and key (i', j'). It is not scaled. None for no bias; an
      `ExpandedBias` for a table that many calls use without changing it.
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
        NVIDIA GPU; bfloat16 and float16. This project has not run it.
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
  _check_shapes(q, k, v, bias_table, grid)
  _check_dtypes(q, k, v, bias_table)
  _check_implementation(q, implementation, interpret)
  if scale is None:
    scale = q.shape[-1] ** -0.5
  if not (bias_table is None or isinstance(bias_table, ExpandedBias)):
    bias_table = jnp.asarray(bias_table, jnp.float32)
  with jax.named_scope('relative_attention'):
    if implementation == 'reference':
      return _reference(q, k, v, bias_table, grid, scale)
    if implementation == 'cudnn':
      return _cudnn(q, k, v, bias_table, grid, scale)
    if implementation == 'auto' and not relative_attention_pallas.supports(q):
      implementation = 'xla'
    options = _Options(implementation, grid, float(scale), interpret)
    return _attend(q, k, v, bias_table, options)


def _reference(q, k, v, bias_table, grid, scale):
  q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))  # [B, heads, N, d]
  logits = jnp.einsum(
    'bhqd,bhkd->bhqk', q * scale, k, preferred_element_type=jnp.float32
  )
  if bias_table is not None:
    logits += expand_bias_table(bias_table, grid)
  weights = jax.nn.softmax(logits).astype(v.dtype)
  return jnp.swapaxes(weights @ v, 1, 2)


def _cudnn(q, k, v, bias_table, grid, scale):
  bias = None
  if bias_table is not None:
    bias = expand_bias_table(bias_table, grid).astype(q.dtype)[None]
  try:
    return jax.nn.dot_product_attention(
      q, k, v, bias, scale=scale, implementation='cudnn'
    )
  except RuntimeError as error:  # no cuDNN, or one that does not take these
    raise ValueError(
      "implementation='cudnn' does not work here; use implementation='auto' or"
      f" 'xla'. The reason: {error}"
    ) from error


class _Options(NamedTuple):
  """What is known of an attention when it is traced, beside its arrays."""

  implementation: str
  grid: tuple[int, int]
  scale: float
  interpret: bool


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q, k, v, bias_table, options):
  return _forward(q, k, v, bias_table, options)[0]


def _forward(q, k, v, bias_table, options):
  """Returns the output and the residuals, the same in all implementations."""
  out, logsumexp = _run(
    options,
    relative_attention_xla.forward,
    relative_attention_pallas.forward,
    q,
    k,
    v,
    bias_table,
  )
  out, logsumexp = keep(out), keep(logsumexp)
  return out, (q, k, v, bias_table, out, logsumexp)


def _backward(options, residuals, grad):
  *inputs, _, _ = residuals
  if isinstance(inputs[-1], ExpandedBias):
    # For inference: its gradient is right, and not fast.
    definition = functools.partial(
      _reference, grid=options.grid, scale=options.scale
    )
    return jax.vjp(definition, *inputs)[1](grad)
  return _run(
    options,
    relative_attention_xla.backward,
    relative_attention_pallas.backward,
    *residuals,
    grad,
  )


_attend.defvjp(_forward, _backward)


def _run(options, xla, pallas, *operands):
  """Runs one of two functions, by implementation and platform."""
  xla = functools.partial(xla, grid=options.grid, scale=options.scale)
  kernel = _bind_kernel(pallas, options)
  if options.implementation == 'xla':
    return xla(*operands)
  if options.interpret:
    return kernel(*operands)

  if options.implementation == 'pallas':
    return call_tpu_only(kernel, *operands, otherwise=_NO_KERNEL)
  on_tpu = functools.partial(call_tpu_only, kernel)
  return lax.platform_dependent(*operands, tpu=on_tpu, default=xla)


@functools.cache
def _bind_kernel(pallas, options):
  """Returns the kernel as a function of arrays.

  It is the same function for the same options, so that JAX traces it once for
  all equal blocks of a model.
  """

  def kernel(*operands):
    # It reads a form of its own, made of the table.
    q, k, v, bias, *others = operands
    if isinstance(bias, ExpandedBias):
      bias = collapse_bias(bias, options.grid)
    return pallas(
      *(q, k, v, bias, *others),
      grid=options.grid,
      scale=options.scale,
      interpret=options.interpret,
    )

  return kernel


def _check_shapes(q, k, v, bias_table, grid):
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
  if bias_table is None:
    return
  if isinstance(bias_table, ExpandedBias):
    expected = (q.shape[2], height * width, height * width)
    if jnp.shape(bias_table.values) != expected:
      raise ValueError(
        f'The expanded bias has shape {jnp.shape(bias_table.values)};'
        f' {q.shape[2]} heads on a grid of {height}x{width} need {expected}.'
      )
    return
  expected = (q.shape[2], 2 * height - 1, 2 * width - 1)
  if jnp.shape(bias_table) != expected:
    raise ValueError(
      f'The bias table has shape {jnp.shape(bias_table)}; {q.shape[2]} heads'
      f' on a grid of {height}x{width} need {expected}.'
    )


def _check_dtypes(q, k, v, bias_table):
  if q.dtype not in (jnp.float32, jnp.bfloat16, jnp.float16):
    raise ValueError(
      f'q is {q.dtype}; it must be float32, bfloat16 or float16.'
    )
  if k.dtype != q.dtype or v.dtype != q.dtype:
    raise ValueError(
      f'q, k and v are {q.dtype}, {k.dtype} and {v.dtype}; they must be of one'
      ' dtype.'
    )
  for bias in jax.tree.leaves(bias_table):
    if not jnp.issubdtype(jnp.result_type(bias), jnp.floating):
      raise ValueError(
        f'The bias is {jnp.result_type(bias)}; it must be of a float dtype.'
      )


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
  if implementation == 'pallas' and not relative_attention_pallas.supports(q):
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
