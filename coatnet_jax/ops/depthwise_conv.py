"""Depthwise convolution, in the form that is fast on the backend it runs on.

XLA's own grouped convolution is right on a TPU. On a CPU it goes through a
naive loop, 20 to 60 times slower than shifted multiply-adds. On a GPU forward
and input gradient are right, but cuDNN can take a kernel launch for each
channel for the weight gradient: 330 of 440 ms of a train step on an H100, for
112x112 pixels, 384 channels and 256 images. Not here: 1x1 convolutions (a
`Dense`) and the stem's full convolutions.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from coatnet_jax.ops.phases import interleave

# How many taps' gradients XLA:CPU sums in one pass over x and the output's
# gradient: 3x3 takes one pass, 7x7 six. One for all 49 takes twice as long.
_TAPS_PER_PASS = 9


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise_conv(
  x: jax.Array, kernel: jax.Array, stride: int = 1
) -> jax.Array:
  """Convolves each channel with its own kernel.

  Pads by half the kernel on each side, whatever the stride, as PyTorch does.
  XLA's 'SAME' does not: at stride 2 it pads an even size by one row less, and
  at the end only.

  The formulation is chosen by platform when the program is lowered, so that
  one program can be exported or compiled ahead of time for another platform.
  Reverse-mode differentiable in x and kernel; forward mode is not.

  >>> x, kernel = jnp.ones((1, 2, 2, 1)), jnp.ones((3, 3, 1, 1))
  >>> depthwise_conv(x, kernel).ravel().tolist()
  [4.0, 4.0, 4.0, 4.0]
  >>> depthwise_conv(x, kernel, 2).shape
  (1, 1, 1, 1)

  Args:
    x: [B, H, W, C], any float dtype.
    kernel: [kh, kw, 1, C], both sides odd; the layout of a grouped
      `lax.conv_general_dilated` in HWIO.
    stride: stride along both H and W, 1 or more.

  Returns:
    [B, ceil(H/stride), ceil(W/stride), C] in x's dtype; products are summed in
    float32.
  """
  return lax.platform_dependent(
    x,
    kernel,
    cpu=functools.partial(_shifted_conv, stride=stride),
    default=functools.partial(_xla_conv, stride=stride),
  )


def _forward(x, kernel, stride):
  return depthwise_conv(x, kernel, stride), (x, kernel)


def _backward(stride, residuals, grad):
  return lax.platform_dependent(
    *residuals,
    grad,
    cpu=functools.partial(_shifted_gradients, stride=stride),
    cuda=functools.partial(_gpu_gradients, stride=stride),
    rocm=functools.partial(_gpu_gradients, stride=stride),
    default=functools.partial(_xla_gradients, stride=stride),
  )


depthwise_conv.defvjp(_forward, _backward)


def _xla_conv(x, kernel, *, stride):
  kh, kw = kernel.shape[:2]
  return lax.conv_general_dilated(
    x,
    kernel.astype(x.dtype),
    window_strides=(stride, stride),
    padding=((kh // 2, kh // 2), (kw // 2, kw // 2)),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=x.shape[-1],
  )


def _xla_gradients(x, kernel, grad, *, stride):
  conv = functools.partial(_xla_conv, stride=stride)
  _, pullback = jax.vjp(conv, x, kernel)
  return pullback(grad)


def _gpu_gradients(x, kernel, grad, *, stride):
  conv = functools.partial(_xla_conv, kernel=kernel, stride=stride)
  _, pullback = jax.vjp(conv, x)
  # A sum for each tap, and no `lax.reduce` of several operands as on a CPU: in
  # XLA:GPU each operand takes 16 KiB of shared memory, and from three on they
  # don't fit, so that the products would be written to memory.
  products = _multiply_shifts(x, grad, kernel.shape[:2], stride)
  sums = [product.sum((0, 1, 2)) for product in products]
  return *pullback(grad), _stack_taps(sums, kernel)


def _shifts(x, kernel_size, stride):
  """Returns what each tap sees of x: kh*kw of [B, H/stride, W/stride, C]."""
  kh, kw = kernel_size
  batch, height, width, channels = x.shape
  padded = jnp.pad(x, ((0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2), (0, 0)))
  # No indexing: with a batch of unknown size JAX would make gathers of it.
  return [
    lax.slice(
      padded,
      (0, i, j, 0),
      (batch, i + height, j + width, channels),
      (1, stride, stride, 1),
    )
    for i in range(kh)
    for j in range(kw)
  ]


def _shifted_conv(x, kernel, *, stride):
  taps = kernel.reshape(-1, x.shape[-1]).astype(jnp.float32)  # [kh*kw, C]
  shifts = _shifts(x, kernel.shape[:2], stride)
  total = sum(shift * tap for shift, tap in zip(shifts, taps))
  return total.astype(x.dtype)


def _shifted_gradients(x, kernel, grad, *, stride):
  products = _multiply_shifts(x, grad, kernel.shape[:2], stride)
  sums = []  # kh*kw of [B, H/stride, C]
  for start in range(0, len(products), _TAPS_PER_PASS):
    sums += _sum_along_w(products[start : start + _TAPS_PER_PASS])
  grad_kernel = _stack_taps([s.sum((0, 1)) for s in sums], kernel)
  return _differentiate_x(x, kernel, grad, stride=stride), grad_kernel


def _differentiate_x(x, kernel, grad, *, stride):
  """Returns the gradient of x, for each phase a sum of shifts of grad."""
  kh, kw = kernel.shape[:2]
  _, height, width, channels = grad.shape
  taps = kernel.reshape(kh, kw, channels).astype(jnp.float32)
  padded = jnp.pad(
    grad, ((0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2), (0, 0))
  )

  def compute_phase(row, column):
    total = jnp.zeros(grad.shape, jnp.float32)
    for i, top in _find_taps(row, kh, stride):
      for j, left in _find_taps(column, kw, stride):
        shift = padded[:, top : top + height, left : left + width]
        total += shift * taps[i, j]
    return total.astype(x.dtype)

  phases = [
    [compute_phase(row, column) for column in range(stride)]
    for row in range(stride)
  ]
  return interleave(phases)[:, : x.shape[1], : x.shape[2]]


def _find_taps(phase, length, stride):
  """Returns the taps that see a phase, and where padded grad then begins."""
  reach = phase + length // 2
  return [
    (tap, (reach - tap) // stride + length // 2)
    for tap in reversed(range(reach % stride, length, stride))
  ]


def _multiply_shifts(x, grad, kernel_size, stride):
  """Returns what each tap's gradient is the sum of: [B, H', W', C] float32."""
  shifts = _shifts(x, kernel_size, stride)
  return [shift.astype(jnp.float32) * grad for shift in shifts]


def _stack_taps(sums, kernel):
  """Returns the gradient of the kernel, from [C] for each of its taps."""
  return jnp.stack(sums).reshape(kernel.shape).astype(kernel.dtype)


def _sum_along_w(products):
  """Sums several [B, H, W, C] to [B, H, C] in one pass over what is in them."""
  sums = lax.reduce(
    products,
    [jnp.float32(0)] * len(products),
    lambda left, right: [a + b for a, b in zip(left, right)],
    dimensions=(2,),
  )
  # Without it XLA:CPU would fuse the rest in and make a pass for each.
  return lax.optimization_barrier(sums)
