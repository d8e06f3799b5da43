"""Max-pooling over windows that don't overlap, and its gradient.

XLA's own gradient is a scatter, right on a TPU. On a CPU it takes 12 to 50
times as long as comparing each pixel with its window's maximum, and on a GPU
XLA refuses to compile it where a run is to be repeated bit for bit. Not here:
windows that overlap (`models/layers.py`).
"""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from coatnet_jax.ops.phases import interleave


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(x: jax.Array, stride: int) -> jax.Array:
  """Reduces each window to its largest value.

  The first of equal pixels has the gradient, row by row. Reverse-mode
  differentiable; forward mode is not.

  >>> x = jnp.array([[1.0, 2.0], [2.0, 0.0]]).reshape(1, 2, 2, 1)
  >>> max_pool(x, 2).ravel().tolist()
  [2.0]
  >>> jax.grad(lambda x: max_pool(x, 2).sum())(x).ravel().tolist()
  [0.0, 1.0, 0.0, 0.0]

  Args:
    x: [B, H, W, C], any float dtype.
    stride: stride of both axes, and size of the windows; divides H and W.

  Returns:
    [B, H/stride, W/stride, C] in x's dtype.
  """
  return nn.max_pool(x, (stride, stride), (stride, stride))


def _forward(x, stride):
  return max_pool(x, stride), x


def _backward(stride, x, grad):
  compare = functools.partial(_compare, stride=stride)
  # What looks for pooling in a compiled program finds it by this name.
  with jax.named_scope('max_pool'):
    grad_x = lax.platform_dependent(
      x,
      grad,
      cpu=compare,
      cuda=compare,
      rocm=compare,
      default=functools.partial(_scatter, stride=stride),
    )
  return (grad_x,)


max_pool.defvjp(_forward, _backward)


def _scatter(x, grad, *, stride):
  pool = functools.partial(
    nn.max_pool, window_shape=(stride, stride), strides=(stride, stride)
  )
  _, pullback = jax.vjp(pool, x)
  return pullback(grad)[0]


def _compare(x, grad, *, stride):
  pixels = [
    [x[:, i::stride, j::stride] for j in range(stride)] for i in range(stride)
  ]
  # Of these very pixels: what the forward pass returned may have been rounded
  # otherwise where XLA computes x anew, and then be like none of them.
  largest = functools.reduce(jnp.maximum, itertools.chain(*pixels))
  is_taken = jnp.zeros(largest.shape, bool)
  phases = []
  for row in pixels:
    phases.append([])
    for pixel in row:
      is_largest = pixel == largest
      phases[-1].append(jnp.where(is_largest & ~is_taken, grad, 0))
      is_taken |= is_largest
  return interleave(phases)
