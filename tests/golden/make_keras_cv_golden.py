r"""Writes the golden files of keras_cv_attention_models' CoAtNets.

    python3.11 -m venv VENV
    VENV/bin/pip install tensorflow-cpu==2.15.1 \
      keras-cv-attention-models==1.4.3 safetensors
    VENV/bin/python -m tests.golden.make_keras_cv_golden

Run from the root of the repository; an environment of its own, because the
published files are those of Keras 2, which this version of TensorFlow is the
last to have. It takes some minutes and 8 GB. The weights depend on their names
alone; another kind of CPU gives other last digits of what is computed.

- keras_cv_shapes.json.gz: of each of its CoAtNets at 224 px the number of
  trainable parameters and the shapes of all weights, as '<layer>/<weight>'.
- keras_cv_small.h5: a small model of the same form, no weight of which is 0 or
  1, as `model.save` writes it.
- keras_cv_small.safetensors: what that model gives (keras_cv_cases.py): its
  'logits', and each stage's map as its means over positions and samples of it.
"""

import gzip
import json
import os
import pathlib
import sys
import tempfile
import zlib

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import h5py
import numpy as np
import tensorflow as tf
from keras_cv_attention_models import coatnet
from safetensors.numpy import save_file

from tests.golden import keras_cv_cases as cases

FOLDER = pathlib.Path(__file__).parent

NAMES = ('CoAtNetT', *(f'CoAtNet{number}' for number in range(8)))

MAP_LAYERS = {
  's0': 'stem_2_conv',
  's1': 'stack_1_block_1_output',
  's2': 'stack_2_block_2_output',
  's3': 'stack_3_block_2_ffn_output',
  's4': 'stack_4_block_1_ffn_output',
}
# Ends of the names of layers.
BEFORE_BATCH_NORM = (
  'stem_1_conv',
  'stem_2_conv',
  'shortcut_conv',
  'expand_conv',
  'MB_dw_conv',
  'MB_pw_conv',
)


def create_shapes(name: str) -> dict:
  """Returns the parameters and shapes of one of its models."""
  options = {} if name == 'CoAtNetT' else {'pretrained': None}
  tf.keras.backend.clear_session()
  # Half the memory, and no more is wanted than shapes.
  tf.keras.mixed_precision.set_global_policy('float16')
  try:
    model = getattr(coatnet, name)(**options)
  finally:
    tf.keras.mixed_precision.set_global_policy('float32')
  shapes = {
    weight.name.removesuffix(':0'): [int(size) for size in weight.shape]
    for weight in model.weights
  }
  trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
  return {'num_trainable': trainable, 'shapes': shapes}


def randomise(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Returns random values that depend on the name alone, float32."""
  # This generator's numbers are frozen for all versions of NumPy.
  random = np.random.RandomState(zlib.crc32(name.encode()))
  uniform = random.random_sample(shape).astype(np.float32) * 2 - 1
  layer, _, kind = name.rpartition('/')
  if kind == 'moving_variance':
    # Small, so that the epsilon matters.
    return (0.01 + 0.005 * uniform).astype(np.float32)
  if kind == 'moving_mean':
    return 0.05 * uniform
  if kind in ('beta', 'bias'):
    return 0.1 * uniform
  if kind == 'gamma':
    return 1 + 0.5 * uniform
  if kind == 'positional_embedding':
    return 1.5 * uniform
  inputs = shape[:2] if kind == 'depthwise_kernel' else shape[:-1]
  deviation = 1 / np.sqrt(np.prod(inputs))
  if layer.endswith('se_1_conv'):
    # The means it is multiplied with are small.
    deviation *= 5
  elif layer.endswith(BEFORE_BATCH_NORM):
    # Small, so that the epsilon matters.
    deviation *= 0.15
  return np.float32(np.sqrt(3) * deviation) * uniform


def create_small_model(classifier_activation: str | None) -> tf.keras.Model:
  """Returns the small model with its random weights."""
  tf.keras.backend.clear_session()
  model = coatnet.CoAtNet(
    num_blocks=cases.NUM_BLOCKS,
    out_channels=cases.WIDTHS,
    stem_width=cases.STEM_WIDTH,
    input_shape=(*cases.IMAGE_SIZE, 3),
    num_classes=cases.NUM_CLASSES,
    classifier_activation=classifier_activation,
    pretrained=None,
    model_name='coatnet0',
  )
  for weight in model.weights:
    name = weight.name.removesuffix(':0')
    weight.assign(randomise(name, tuple(weight.shape)))
  return model


def compute_outputs(
  model: tf.keras.Model, images: np.ndarray
) -> dict[str, np.ndarray]:
  """Returns the 'logits' and, as 'maps/s0' to 'maps/s4', the stages' maps.

  Args:
    model: without an activation of its classifier.
    images: [B, H, W, 3] float32, normalised.
  """
  outputs = {
    f'maps/{name}': model.get_layer(layer).output
    for name, layer in MAP_LAYERS.items()
  }
  outputs['logits'] = model.output
  results = tf.keras.Model(model.inputs, outputs)(images, training=False)
  return {name: result.numpy() for name, result in results.items()}


def save_small(path: pathlib.Path) -> None:
  """Writes the small model as the published files are made.

  Raises:
    AssertionError: `save_weights` writes something else than a copy of the
      group that `save` does, which the tests rely on.
  """
  model = create_small_model('softmax')
  model.save(path)
  with tempfile.TemporaryDirectory() as folder:
    weights_path = os.path.join(folder, 'weights.h5')
    model.save_weights(weights_path)
    with h5py.File(path) as whole, h5py.File(weights_path) as weights:
      assert _read(whole['model_weights']) == _read(weights)


def _read(group: h5py.Group) -> dict[str, object]:
  """Everything that a group holds, by path."""
  found = {'': {name: np.array(v).tolist() for name, v in group.attrs.items()}}

  def add(name, item):
    attributes = {key: np.array(v).tolist() for key, v in item.attrs.items()}
    data = item[()].tobytes() if isinstance(item, h5py.Dataset) else None
    found[name] = (attributes, data)

  group.visititems(add)
  return found


def write_small(folder: pathlib.Path) -> None:
  """Writes the small model and what it gives."""
  save_small(folder / 'keras_cv_small.h5')
  expected = {}
  outputs = compute_outputs(create_small_model(None), cases.create_images())
  for name, value in outputs.items():
    if name.startswith('maps/'):
      for part, array in cases.summarise_map(value).items():
        expected[f'{name}/{part}'] = array
    else:
      expected[name] = value
  save_file(expected, folder / 'keras_cv_small.safetensors')


def write_shapes(folder: pathlib.Path) -> None:
  """Writes the shapes of the full models."""
  text = json.dumps(
    {name: create_shapes(name) for name in NAMES}, separators=(',', ':')
  )
  (folder / 'keras_cv_shapes.json.gz').write_bytes(
    gzip.compress(text.encode(), mtime=0)
  )


def main(folder: pathlib.Path = FOLDER) -> None:
  """Writes all files."""
  write_small(folder)
  write_shapes(folder)


if __name__ == '__main__':
  main(*map(pathlib.Path, sys.argv[1:]))
