"""This project as a contestant: its own train step, or its inference.

Needs JAX, Flax and optax, but none of what reads data, configs and checkpoints:
TensorFlow, grain, clu, ml-collections (tests/benchmarks/versus/ours_test.py).
"""

import functools
import sys
import time
import types
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.versus import contestant
from benchmarks.versus.task import (
  ADAMW,
  MEAN,
  NUM_CLASSES,
  STD,
  Task,
  create_images,
)
from coatnet_jax import inference
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.models.factory import create_model
from coatnet_jax.models.variables import create_variables
from coatnet_jax.training.losses import LossOptions
from coatnet_jax.training.mixup import MixupOptions
from coatnet_jax.training.optimizers import create_optimizer
from coatnet_jax.training.train_state import create_train_state
from coatnet_jax.training.train_step import train_step

_PIXELS = types.SimpleNamespace(mean=(MEAN,) * 3, std=(STD,) * 3)


class Ours:
  """The questions that this contestant answers."""

  def __init__(self, task: Task):
    """Takes what is to be computed."""
    self.task = task
    self._take_step = self._result = None

  def prepare(self) -> dict[str, Any]:
    """Makes model and images, and returns what they are."""
    # Compiling is timed, and loading what was compiled once is not that.
    jax.config.update('jax_enable_compilation_cache', False)
    task = self.task
    device = jax.devices()[0]
    mesh = mesh_lib.create_mesh(
      replica=1, data=1, fsdp=1, tensor=1, devices=[device]
    )
    model = create_model(
      task.model,
      num_classes=NUM_CLASSES,
      dtype=task.dtype,
      attention=task.attention,
    )
    batch = create_images(task)
    batch = mesh_lib.put_batch(batch, mesh, ('image', 'label'))
    if task.mode == 'train':
      params = self._prepare_training(model, batch, mesh)
    else:
      params = self._prepare_inference(model, batch, mesh)
    return {
      'num_parameters': sum(x.size for x in jax.tree.leaves(params)),
      'versions': {'jax': jax.__version__},
      'device': device.device_kind,
    }

  def _prepare_training(self, model, batch, mesh):
    adamw = {**ADAMW}
    schedule = optax.constant_schedule(adamw.pop('learning_rate'))
    # A `StepOptions`: what train.py's own step is given of a run.
    options = types.SimpleNamespace(
      model=model,
      preprocessing=_PIXELS,
      mixup=MixupOptions(
        mixup_alpha=0.0, cutmix_alpha=0.0, cutmix_probability=0.5
      ),
      loss=LossOptions(kind='softmax', label_smoothing=0.0),
      class_weights=(),
      schedule=schedule,
      tx=create_optimizer(
        schedule,
        name='adamw',
        **adamw,
        clip_norm=0.0,
        layer_decay=1.0,
        frozen=(),
      ),
      frozen=(),
      training=types.SimpleNamespace(
        gradient_accumulation_steps=1,
        ema_decay=0.0,
        ema_warmup=False,
        skip_nonfinite_steps=0,
      ),
    )
    create_state = functools.partial(
      create_train_state,
      model=model,
      tx=options.tx,
      image_size=self.task.image_size,
      use_ema=False,
    )
    state = mesh_lib.jit(create_state, mesh)(jax.random.key(0))
    compiled = mesh_lib.jit(
      functools.partial(train_step, run=options), mesh, donate_argnums=0
    )

    def take_step():
      nonlocal state
      state, self._result = compiled(state, batch)

    self._take_step = take_step
    return state.params

  def _prepare_inference(self, model, batch, mesh):
    create = functools.partial(create_variables, model, self.task.image_size)
    variables = mesh_lib.jit(create, mesh)(jax.random.key(0))
    compiled = mesh_lib.jit(
      functools.partial(
        inference.compute_logits, model=model, preprocessing=_PIXELS
      ),
      mesh,
    )

    def take_step():
      self._result = compiled(variables, batch['image'])

    self._take_step = take_step
    return variables['params']

  def compile(self) -> dict[str, Any]:
    """Takes the first two steps, and returns what they took."""
    start = time.perf_counter()
    self._take_step()
    self._wait()
    first = time.perf_counter() - start
    if not all(jnp.isfinite(x).all() for x in jax.tree.leaves(self._result)):
      raise FloatingPointError('the first step is not finite')
    return {
      'first_call_seconds': first,
      'notes': [],
      **contestant.time_steps(self._take_step, self._wait, 1),
    }

  def turn(self, steps: int) -> dict[str, float]:
    """Takes steps, and returns what one took."""
    return contestant.time_steps(self._take_step, self._wait, steps)

  def peak_bytes(self) -> int | None:
    """Returns the device's peak on a GPU, else the process's."""
    if self.task.device == 'cpu':
      return contestant.read_peak_memory()
    return (jax.devices()[0].memory_stats() or {}).get('peak_bytes_in_use')

  def _wait(self) -> None:
    jax.block_until_ready(self._result)


def main(argument: str) -> None:
  """Answers what is asked on stdin.

  Args:
    argument: JSON text of the `Task` to compute.
  """
  contestant.answer_as(Ours(Task.from_json(argument)))


if __name__ == '__main__':
  main(sys.argv[1])
