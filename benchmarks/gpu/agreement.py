"""Whether a device computes what the CPU, or a definition, does."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from coatnet_jax.models.factory import create_model
from coatnet_jax.models.variables import create_variables
from coatnet_jax.ops.relative_attention import relative_attention

# What GPU and CPU may differ by: logits of their range; a gradient of its
# largest value, or of a hundredth of the largest of all, where it is next to 0.
LOGITS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
_NEXT_TO_NOTHING = 0.01
# Of bfloat16, whose numbers have eight digits in base two.
ATTENTION_TOLERANCE = 0.03


def compare_with_cpu(
  name: str, image_size: tuple[int, int], device: jax.Device
) -> dict[str, float]:
  """Returns what a model's results on a device differ by from the CPU's.

  Args:
    name: name of the variant, as `create_model` takes it.
    image_size: (height, width) in pixels.
    device: device whose results are compared with the CPU's.

  Returns:
    'logits', of their range, and 'gradients', the worst parameter's.
  """
  model = create_model(name)
  cpu = jax.devices('cpu')[0]
  rng = np.random.default_rng(0)
  images = rng.normal(size=(2, *image_size, 3)).astype(np.float32)

  def compute(params, batch_stats, images):
    def compute_loss(params):
      logits, _ = model.apply(
        {'params': params, 'batch_stats': batch_stats},
        images,
        train=True,
        mutable=['batch_stats'],
        rngs={'dropout': jax.random.key(0)},
      )
      # No row of weights is constant: a softmax would not see that.
      weights = jnp.cos(jnp.arange(logits.size)).reshape(logits.shape)
      return (weights * logits).mean(), logits

    (_, logits), gradients = jax.value_and_grad(compute_loss, has_aux=True)(
      params
    )
    return logits, gradients

  with jax.default_device(cpu), jax.default_matmul_precision('highest'):
    variables = jax.jit(functools.partial(create_variables, model, image_size))(
      jax.random.key(0)
    )
    results = []
    for where in (cpu, device):
      arguments = jax.device_put(
        (variables['params'], variables['batch_stats'], images), where
      )
      results.append(jax.device_get(jax.jit(compute)(*arguments)))
  (expected, expected_gradients), (found, gradients) = results
  return {
    'logits': float(np.abs(found - expected).max() / np.ptp(expected)),
    'gradients': compare_gradients(gradients, expected_gradients),
  }


def compare_gradients(found: Any, expected: Any) -> float:
  """Returns the largest difference of any array, as a part of its values.

  It is NaN if any is.

  >>> compare_gradients({'a': np.ones(2)}, {'a': np.array([1.0, 0.5])})
  0.5

  Args:
    found: tree of NumPy arrays of any shapes, the ones to be judged.
    expected: tree of arrays, what they should be.
  """
  largest = jax.tree.map(lambda x: np.abs(x).max(), expected)
  least = _NEXT_TO_NOTHING * np.max(jax.tree.leaves(largest))
  differences = jax.tree.map(
    lambda f, e, scale: np.abs(f - e).max() / max(scale, least),
    *(found, expected, largest),
  )
  # Python's own `max` passes over a NaN that is not the first.
  return float(np.max(jax.tree.leaves(differences)))


def compare_attention(
  grid: tuple[int, int], implementation: str, device: jax.Device
) -> float:
  """Returns how far attention is from its definition, with its gradients.

  Args:
    grid: (H, W), the numbers of rows and columns of tokens.
    implementation: form of attention, which computes in bfloat16.
    device: device whose results are compared with the CPU's.

  Returns:
    The largest difference of output and gradients, each of its largest value;
    NaN if any is.
  """
  height, width = grid
  rng = np.random.default_rng(0)
  tokens = (8, height * width, 12, 32)
  table = (12, 2 * height - 1, 2 * width - 1)
  q, k, v, grad = (
    jnp.asarray(rng.normal(size=tokens), jnp.bfloat16) for _ in range(4)
  )
  bias_table = jnp.asarray(rng.normal(size=table), jnp.float32)

  @functools.partial(jax.jit, static_argnames=('name', 'dtype'))
  def differentiate(q, k, v, bias_table, grad, *, name, dtype):
    q, k, v, grad = (x.astype(dtype) for x in (q, k, v, grad))
    out, pullback = jax.vjp(
      functools.partial(relative_attention, grid=grid, implementation=name),
      *(q, k, v, bias_table),
    )
    return [x.astype(jnp.float32) for x in (out, *pullback(grad))]

  operands = jax.device_put((q, k, v, bias_table, grad), device)
  found = differentiate(*operands, name=implementation, dtype='bfloat16')
  with jax.default_matmul_precision('highest'):
    expected = differentiate(*operands, name='reference', dtype='float32')
  differences = [
    jnp.abs(f - e).max() / jnp.abs(e).max()
    for f, e in zip(found, expected, strict=True)
  ]
  return float(np.max(differences))
