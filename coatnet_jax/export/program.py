"""A trained model as one function of images, and as a list of plain operations.

`create_function` is what is exported: parameters inside, float32 throughout.
`trace_plainly` brings it into a form that other frameworks' graphs are made of
(`translation.py`): calls are inlined, of what differs by platform the general
form is taken, and what follows from the parameters alone is computed.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.extend import core

from coatnet_jax import inference
from coatnet_jax.checkpoints.trained_model import TrainedModel

# Parameter that holds what a call calls, by the primitive's name.
_CALLS = {
  'jit': 'jaxpr',
  'pjit': 'jaxpr',
  'closed_call': 'call_jaxpr',
  'custom_jvp_call': 'call_jaxpr',
  'custom_vjp_call': 'call_jaxpr',
  'remat2': 'jaxpr',
  'checkpoint': 'jaxpr',
}
# What changes nothing of its operands.
_IDENTITIES = ('copy', 'name', 'optimization_barrier', 'stop_gradient')
# Elements of an array that is computed ahead though its operands are smaller:
# a table of biases, once expanded, is many times as large.
_MAX_FOLDED = 2**20


def create_function(
  trained: TrainedModel,
  *,
  with_preprocessing: bool,
  attention: str = 'reference',
) -> Callable[[jax.Array], jax.Array]:
  """Returns the function of images that is exported.

  Args:
    trained: trained model, from `load_trained_model`.
    with_preprocessing: whether it takes [B, H, W, 3] uint8 and normalises them,
      or normalised float32.
    attention: implementation of relative attention, one of `IMPLEMENTATIONS`.

  Returns:
    A function of images that returns logits, [B, K] float32.
  """
  model = trained.model.clone(dtype=jnp.float32)
  if hasattr(model, 'compute'):
    compute = dataclasses.replace(model.compute, attention=attention)
    model = model.clone(compute=compute)
  # Of one device, wherever they were.
  variables = jax.tree.map(jnp.asarray, jax.device_get(trained.variables))

  def compute_logits(images):
    if with_preprocessing:
      return inference.compute_logits(
        variables, images, model=model, preprocessing=trained.preprocessing
      )
    return model.apply(variables, images, train=False)

  return compute_logits


def describe_images(
  trained: TrainedModel, *, with_preprocessing: bool
) -> jax.ShapeDtypeStruct:
  """Returns shape and dtype of the images, with a batch of any size."""
  (batch,) = export.symbolic_shape('batch')
  height, width = trained.preprocessing.image_size
  dtype = jnp.uint8 if with_preprocessing else jnp.float32
  return jax.ShapeDtypeStruct((batch, height, width, 3), dtype)


def trace_plainly(
  function: Callable[[jax.Array], jax.Array], images: jax.ShapeDtypeStruct
) -> core.ClosedJaxpr:
  """Returns a function's operations in order, none of which is a call.

  Args:
    function: function of images.
    images: shape and dtype of the images; a size may be symbolic.
  """
  traced = jax.make_jaxpr(function)(images)
  closed = jax.make_jaxpr(lambda x: _inline(traced, [x])[0])(images)
  arrays = [np.asarray(array) for array in closed.consts]
  return core.ClosedJaxpr(closed.jaxpr, arrays)


def _inline(closed: Any, arguments: Sequence[Any]) -> list[Any]:
  """Applies the operations of a jaxpr, and of all that it calls."""
  jaxpr = getattr(closed, 'jaxpr', closed)
  values = dict(zip(jaxpr.constvars, getattr(closed, 'consts', ())))
  values.update(zip(jaxpr.invars, arguments))

  def read(atom):
    return atom.val if isinstance(atom, core.Literal) else values[atom]

  for equation in jaxpr.eqns:
    name = equation.primitive.name
    operands = [read(atom) for atom in equation.invars]
    results: Sequence[Any]
    if name in _CALLS:
      results = _inline(equation.params[_CALLS[name]], operands)
    elif name in _IDENTITIES:
      results = operands
    elif name == 'platform_index':
      # Of the form for all platforms, which `None` stands for.
      results = [equation.params['platforms'].index(None)]
    elif name == 'clamp' and isinstance(operands[1], int):
      results = operands[1:2]
    elif name == 'cond' and isinstance(operands[0], int):
      results = _inline(equation.params['branches'][operands[0]], operands[1:])
    else:
      results = _bind(equation, operands)
    values.update(zip(equation.outvars, results))
  return [read(atom) for atom in jaxpr.outvars]


def _bind(equation: Any, operands: Sequence[Any]) -> Sequence[Any]:
  """Applies one operation, at once where its operands are known."""
  is_known = not any(isinstance(x, jax.core.Tracer) for x in operands)
  shapes = [variable.aval.shape for variable in equation.outvars]
  is_static = all(isinstance(size, int) for s in shapes for size in s)
  context: contextlib.AbstractContextManager = contextlib.nullcontext()
  if is_known and is_static:
    limit = max([_MAX_FOLDED, *(np.size(x) for x in operands)])
    if sum(math.prod(shape) for shape in shapes) <= limit:
      context = jax.ensure_compile_time_eval()
  with context:
    results = equation.primitive.bind(*operands, **equation.params)
  return results if equation.primitive.multiple_results else [results]
