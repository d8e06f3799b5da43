"""The batches that a run reads: its sources and options, on its mesh."""

from collections.abc import Sequence

from coatnet_jax.data import batching
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.run import Run


def read_train_batches(
  run: Run,
  num_steps_taken: int,
  *,
  shards: Sequence[int] | None = None,
  num_shards: int | None = None,
) -> batching.SteadyBatches:
  """Returns the training batches behind some steps, as an iterator.

  Args:
    run: resolved run, from `create_run`.
    num_steps_taken: number of steps whose batches are left out.
    shards: numbers of the shards of each batch that are read; None reads those
      of this process.
    num_shards: number of shards of each batch; None is the mesh's.

  Returns:
    What `batching.create_train_batches` does.
  """
  if shards is None:
    shards = mesh_lib.find_process_shards(run.mesh)
    num_shards = mesh_lib.count_batch_shards(run.mesh)
  return batching.create_train_batches(
    run.train_source,
    data=run.data,
    preprocessing=run.preprocessing,
    augmentation=run.augmentation,
    global_batch_size=run.training.global_batch_size,
    seed=run.seed,
    start_step=num_steps_taken,
    shards=shards,
    num_shards=num_shards,
  )


def read_eval_batches(run: Run) -> batching.EvalBatches:
  """Returns this process's rows of all evaluation batches.

  Args:
    run: resolved run, from `create_run`.
  """
  return batching.create_eval_batches(
    run.eval_source,
    data=run.data,
    preprocessing=run.preprocessing,
    global_batch_size=run.evaluation.global_batch_size,
    shards=mesh_lib.find_process_shards(run.mesh),
    num_shards=mesh_lib.count_batch_shards(run.mesh),
  )
