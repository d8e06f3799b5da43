"""The batch of a step that diverged: keeping it, and reading it again."""

import contextlib
import dataclasses
import io
import zipfile
from collections.abc import Mapping

import jax
import numpy as np
from absl import logging
from etils import epath
from jax.experimental import multihost_utils

from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.distributed import processes
from coatnet_jax.paths import write_whole
from coatnet_jax.run import Run
from coatnet_jax.run_batches import read_train_batches

DIRECTORY = 'diverged'

Batch = Mapping[str, np.ndarray]


def put_batch(run: Run, batch: Batch) -> dict[str, jax.Array]:
  """Makes global arrays on the run's mesh of this process's rows of a batch."""
  return mesh_lib.put_batch(batch, run.mesh, ('image', 'label'))


def keep_batch(run: Run, workdir: str, step: int) -> None:
  """Writes a step's whole batch into workdir/diverged, on the first process.

  It is made anew, so that a run need not keep its batches until it knows that
  they were fine. To be called by all processes.

  Args:
    run: resolved run, from `create_run`.
    workdir: directory of the run.
    step: number of the step, from 1.
  """
  processes.begin(f'keeping the batch of step {step}')
  if jax.process_index() == 0:
    one = dataclasses.replace(run.data, num_workers=0, prefetch_batches=1)
    alone = dataclasses.replace(run, data=one)
    with contextlib.closing(
      read_train_batches(alone, step - 1, shards=(0,), num_shards=1)
    ) as batches:
      batch = next(batches)
    content = io.BytesIO()
    np.savez(content, image=batch['image'], label=batch['label'])
    path = _batch_path(workdir, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content.getvalue())
  multihost_utils.sync_global_devices(f'the batch of step {step} is kept')


def read_kept_batch(run: Run, workdir: str, step: int) -> Batch | None:
  """Returns this process's rows of a batch that was kept, or None.

  Args:
    run: resolved run, from `create_run`.
    workdir: directory of the run.
    step: number of the step, from 1.
  """
  path = _batch_path(workdir, step)
  if not path.exists():
    return None
  try:
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
      batch = {name: file[name] for name in ('image', 'label')}
  except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
    logging.warning('%s is damaged: %s', path, error)
    return None
  shape = run.abstract_batch['image'].shape
  if batch['image'].shape != shape:
    logging.warning('%s is of another run', path)
    return None
  count = mesh_lib.count_batch_shards(run.mesh)
  shards = list(mesh_lib.find_process_shards(run.mesh))
  return {
    name: np.concatenate([np.split(rows, count)[n] for n in shards])
    if len(shards) < count
    else rows
    for name, rows in batch.items()
  }


def _batch_path(workdir: str, step: int) -> epath.Path:
  return epath.Path(workdir) / DIRECTORY / f'step_{step}.npz'
