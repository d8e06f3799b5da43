"""A part of a program that only a TPU can run.

JAX lowers every part of a program for every platform that the program is
exported for, also a Pallas kernel that `jax.lax.platform_dependent` chooses on
a TPU alone, and no other platform takes it. Here it is lowered for TPUs only.
Not here: choosing by platform.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.interpreters import batching, mlir


def call_tpu_only(function: Callable, *operands, otherwise: str | None = None):
  """Calls a function whose result only a TPU can compute.

  Args:
    function: function of the operands, which is traced.
    *operands: trees of arrays.
    otherwise: message of the error where this is lowered for another platform;
      None where the result is not used there, and is zeros.

  Returns:
    What the function returns.

  Raises:
    ValueError: when lowered for another platform than a TPU, with `otherwise`.
  """
  # Traced here, once: a primitive has arrays and static parameters, no trees.
  program, shapes = jax.make_jaxpr(function, return_shape=True)(*operands)
  results = _tpu_only.bind(
    *jax.tree.leaves(operands), program=program, otherwise=otherwise
  )
  return jax.tree.unflatten(jax.tree.structure(shapes), results)


_tpu_only = core.Primitive('tpu_only')
_tpu_only.multiple_results = True


@_tpu_only.def_impl
def _run(*operands, **params):
  # Lowering it is what fails on other platforms.
  return jax.jit(functools.partial(_tpu_only.bind, **params))(*operands)


@_tpu_only.def_abstract_eval
def _result_types(*_, program, otherwise):
  del otherwise
  return program.out_avals


def _run_one_by_one(operands, axes, *, program, otherwise):
  """The rule of `vmap`: not all that a kernel does has one of its own."""
  is_mapped = [axis is not None for axis in axes]
  mapped = [
    jnp.moveaxis(x, axis, 0) if is_one else None
    for x, axis, is_one in zip(operands, axes, is_mapped)
  ]

  def one(mapped):
    return core.jaxpr_as_fun(program)(
      *(y if is_one else x for x, y, is_one in zip(operands, mapped, is_mapped))
    )

  results = call_tpu_only(
    functools.partial(jax.lax.map, one), mapped, otherwise=otherwise
  )
  return results, [0] * len(results)


batching.primitive_batchers[_tpu_only] = _run_one_by_one


def _compute(*operands, program, otherwise):
  del otherwise
  return core.jaxpr_as_fun(program)(*operands)


def _refuse_or_zeros(*_, program, otherwise):
  if otherwise is not None:
    raise ValueError(otherwise)
  return [jnp.zeros(aval.shape, aval.dtype) for aval in program.out_avals]


mlir.register_lowering(_tpu_only, mlir.lower_fun(_compute), platform='tpu')
mlir.register_lowering(_tpu_only, mlir.lower_fun(_refuse_or_zeros))
