"""Reads an exported file back, by its own runtime and NumPy alone.

    python -I reading.py FORMAT FILE IMAGES.npy RESULT.npz SECONDS

A program of its own, which `parity.py` runs: it imports nothing of this
project, and refuses to if a runtime should. The result holds the logits of all
images in batches, and of the first few one at a time, and JSON: the runtime's
name, how long each batch size takes, timed for SECONDS, and the classes that
the file names.
"""

import json
import pathlib
import sys
import time
import zipfile

import numpy as np

BATCH_SIZE = 16
# Images that are also given one at a time.
NUM_SINGLE = 8
# How often each batch size is timed at least.
REPETITIONS = 3


class _Refusal:
  """A finder that keeps this project out."""

  def find_spec(self, name, path=None, target=None):
    """Raises ImportError for this project's modules."""
    if name.partition('.')[0] in ('coatnet_jax', 'tools', 'configs'):
      raise ImportError(f'{name} is not for who reads an exported file.')


def open_stablehlo(path):
  """Returns a function of images, the runtime's name, and class names."""
  import jax
  from jax import export

  with zipfile.ZipFile(path) as archive:
    exported = export.deserialize(bytearray(archive.read('program.jax_export')))
    names = json.loads(archive.read('description.json'))['class_names']
  call = jax.jit(exported.call)
  return lambda x: np.asarray(call(x)), f'jax {jax.__version__}', names


def open_onnx(path):
  """Returns a function of images, the runtime's name, and class names."""
  import onnxruntime

  session = onnxruntime.InferenceSession(
    str(path), providers=['CPUExecutionProvider']
  )
  known = session.get_modelmeta().custom_metadata_map
  return (
    lambda x: session.run(['logits'], {'images': x})[0],
    f'onnxruntime {onnxruntime.__version__}',
    json.loads(known['class_names']),
  )


def open_savedmodel(path):
  """Returns a function of images, the runtime's name, and class names."""
  import tensorflow as tf

  loaded = tf.saved_model.load(str(path))
  call = loaded.signatures['serving_default']
  text = (path / 'assets.extra' / 'description.json').read_text('utf-8')
  return (
    lambda x: call(images=tf.constant(x))['logits'].numpy(),
    f'tensorflow {tf.__version__}',
    json.loads(text)['class_names'],
  )


def open_tflite(path):
  """Returns a function of images, the runtime's name, and class names."""
  import os
  from importlib import metadata

  from ai_edge_litert.interpreter import Interpreter

  interpreter = Interpreter(str(path), num_threads=os.cpu_count())
  images = interpreter.get_input_details()[0]['index']
  logits = interpreter.get_output_details()[0]['index']
  prepared = []

  def call(x):
    if prepared != [x.shape]:
      interpreter.resize_tensor_input(images, x.shape)
      interpreter.allocate_tensors()
      prepared[:] = [x.shape]
    interpreter.set_tensor(images, x)
    interpreter.invoke()
    return interpreter.get_tensor(logits)

  with zipfile.ZipFile(path) as archive:
    names = json.loads(archive.read('description.json'))['class_names']
  return call, f'ai-edge-litert {metadata.version("ai-edge-litert")}', names


OPENERS = {
  'stablehlo': open_stablehlo,
  'onnx': open_onnx,
  'savedmodel': open_savedmodel,
  'tflite': open_tflite,
}


def measure(call, images, seconds):
  """Returns the seconds that one call takes, the best of several.

  Args:
    call: function of images, which has been called with this shape.
    images: images of one batch.
    seconds: seconds to go on for.
  """
  taken, start = [], time.perf_counter()
  while len(taken) < REPETITIONS or time.perf_counter() - start < seconds:
    before = time.perf_counter()
    call(images)
    taken.append(time.perf_counter() - before)
  return min(taken)


def main(arguments):
  """Reads a file, and writes what it says of images."""
  name, path, images, result, limit = arguments
  sys.meta_path.insert(0, _Refusal())
  call, runtime, class_names = OPENERS[name](pathlib.Path(path))
  images = np.load(images)
  singles = [call(images[i : i + 1]) for i in range(len(images))[:NUM_SINGLE]]
  batches = [
    call(images[i : i + BATCH_SIZE]) for i in range(0, len(images), BATCH_SIZE)
  ]
  full = np.resize(images, (BATCH_SIZE, *images.shape[1:]))
  call(full)
  seconds = {BATCH_SIZE: measure(call, full, float(limit))}
  call(images[:1])
  seconds[1] = measure(call, images[:1], float(limit))
  np.savez(
    result,
    singles=np.concatenate(singles),
    logits=np.concatenate(batches),
    facts=json.dumps(
      {'runtime': runtime, 'seconds': seconds, 'class_names': class_names}
    ),
  )


if __name__ == '__main__':
  main(sys.argv[1:])
