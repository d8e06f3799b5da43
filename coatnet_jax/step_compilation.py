"""The train step as the one program that a mesh runs: jitted, then compiled."""

import functools
from collections.abc import Callable

import jax

from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.errors import UserError
from coatnet_jax.run import Run
from coatnet_jax.tpu_compiler import compiled_step
from coatnet_jax.training.train_state import TrainState
from coatnet_jax.training.train_step import train_step


def jit_train_step(run: Run, abstract_state: TrainState):
  """Returns `train_step` jitted for the run's mesh; the state is donated.

  Args:
    run: resolved run, from `create_run`.
    abstract_state: tree of `jax.ShapeDtypeStruct` with shardings, from
      `abstract_train_state`.

  Returns:
    (state, batch) -> (state, metrics), not yet compiled.
  """
  state_shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state)
  return mesh_lib.jit(
    functools.partial(train_step, run=run),
    run.mesh,
    out_shardings=(
      state_shardings,
      mesh_lib.create_replicated_sharding(run.mesh),
    ),
    donate_argnums=0,
  )


def compile_train_step(
  run: Run,
  abstract_state: TrainState,
  report: Callable[[str], None] = print,
):
  """Compiles what `jit_train_step` returns, for the run's batch.

  Loads `config.compiled_train_step` instead, where that is of this very
  program.

  Args:
    run: resolved run, from `create_run`.
    abstract_state: tree of `jax.ShapeDtypeStruct` with shardings, from
      `abstract_train_state`.
    report: function called with a line about what was loaded.
  """
  jitted = jit_train_step(run, abstract_state)
  lowered = jitted.lower(abstract_state, run.abstract_batch)
  if run.compiled_train_step:
    try:
      compiled = compiled_step.load_compiled(
        run.compiled_train_step, lowered, run.mesh
      )
    except UserError as error:
      report(f'{error} So it is compiled here.')
    else:
      report(f'Loaded {run.compiled_train_step}; nothing to compile.')
      return compiled
  return lowered.compile()
