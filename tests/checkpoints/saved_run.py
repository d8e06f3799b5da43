"""A run's checkpoints without the run: a small state at some steps."""

import flax
import jax
import jax.numpy as jnp
import pytest

from coatnet_jax.checkpoints import saving
from coatnet_jax.checkpoints.metadata import Metadata, Progress

EXAMPLES_PER_STEP = 8
CONFIG = {'seed': 1, 'model': {}, 'preprocessing': {}}
OPTIONS = saving.CheckpointOptions(
  every_steps=0, every_seconds=0, max_to_keep=9, best_metric='top1'
)


@flax.struct.dataclass
class State:
  step: jax.Array
  w: jax.Array


def create_state(step):
  key = jax.random.key(step)
  return State(step=jnp.int32(step), w=jax.random.normal(key, (37, 11)))


def save_run(workdir, steps=(2, 4)):
  with saving.open_checkpoints(str(workdir), OPTIONS, pytest.fail) as manager:
    for step in steps:
      saving.save_checkpoint(
        manager,
        create_state(step),
        step=step,
        progress=Progress(
          examples_seen=EXAMPLES_PER_STEP * step, seconds=9.5 * step
        ),
        metadata=Metadata(
          model={'name': 'coatnet_0'},
          preprocessing={},
          class_names=('ant', 'bee'),
          config=CONFIG,
        ),
      )
      metrics = {'top1': step / 10, 'top5': 0.9, 'loss': 1.5}
      saving.save_evaluation(manager, step, metrics)
  return workdir
