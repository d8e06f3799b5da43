"""This project's model as a contestant, exported and run by ONNX Runtime.

Inference on CPUs in float32 alone, with the runtime's own number of threads.
Images are normalised in the file, as they are in this project's inference.
Needs requirements-export.txt.
"""

import functools
import pathlib
import sys
import tempfile
import time
import types
from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime

from benchmarks.versus import contestant
from benchmarks.versus.task import MEAN, NUM_CLASSES, STD, Task, create_images
from coatnet_jax.export.onnx_file import convert_to_onnx
from coatnet_jax.models.factory import create_model
from coatnet_jax.models.variables import create_variables


class OnnxRuntime:
  """The questions that this contestant answers."""

  def __init__(self, task: Task):
    """Takes what is to be computed."""
    self._task = task

  def prepare(self) -> dict[str, Any]:
    """Exports the model, and returns what it is."""
    size = self._task.image_size
    model = create_model(self._task.model, num_classes=NUM_CLASSES)
    create = jax.jit(functools.partial(create_variables, model, size))
    variables = create(jax.random.key(0))
    # What an export needs of a `TrainedModel`.
    trained = types.SimpleNamespace(
      model=model,
      variables=variables,
      preprocessing=types.SimpleNamespace(
        image_size=size, mean=(MEAN,) * 3, std=(STD,) * 3
      ),
    )
    self._images = create_images(self._task)['image']
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / 'model.onnx'
      onnx.save(convert_to_onnx(trained, with_preprocessing=True), path)
      self._session = onnxruntime.InferenceSession(
        path, providers=['CPUExecutionProvider']
      )
    leaves = jax.tree.leaves(variables['params'])
    return {
      'num_parameters': sum(leaf.size for leaf in leaves),
      'versions': {'onnxruntime': onnxruntime.__version__},
      'device': 'cpu',
    }

  def compile(self) -> dict[str, Any]:
    """Takes the first two steps, and returns what they took."""
    start = time.perf_counter()
    if not np.isfinite(self._take_step()).all():
      raise FloatingPointError('the first step is not finite')
    return {
      'first_call_seconds': time.perf_counter() - start,
      'notes': [],
      **self.turn(1),
    }

  def turn(self, steps: int) -> dict[str, float]:
    """Takes steps, and returns what one took."""
    return contestant.time_steps(self._take_step, lambda: None, steps)

  def peak_bytes(self) -> int | None:
    """Returns the process's peak, that of the export among it."""
    return contestant.read_peak_memory()

  def _take_step(self) -> np.ndarray:
    return self._session.run(['logits'], {'images': self._images})[0]


if __name__ == '__main__':
  contestant.answer_as(OnnxRuntime(Task.from_json(sys.argv[1])))
