"""What an exported file says of itself, in every format.

`description.json` and `labels.txt`, one class a line, are in the archive of
StableHLO, in the `assets.extra` of a SavedModel, and in the archive at the end
of a TFLite file; ONNX's `metadata_props` have the same keys.
"""

import dataclasses
import pathlib
import tomllib
from importlib import metadata
from typing import Any

from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.escapes import escape
from coatnet_jax.strict_json import to_json

DESCRIPTION_FILE = 'description.json'
LABELS_FILE = 'labels.txt'


def describe(
  trained: TrainedModel, *, with_preprocessing: bool, precision: str
) -> dict[str, Any]:
  """Returns what a file says, as JSON values.

  Args:
    trained: trained model, from `load_trained_model`.
    with_preprocessing: whether the file normalises images itself.
    precision: precision of the file.
  """
  preprocessing = dataclasses.asdict(trained.preprocessing)
  size = list(preprocessing.pop('image_size'))
  return {
    'project': f'coatnet_jax {_find_version()}',
    'model': trained.config.model.name,
    'step': trained.step,
    'precision': precision,
    'input': (
      'images, [batch, height, width, 3] RGB, uint8 in 0..255'
      if with_preprocessing
      else 'images, [batch, height, width, 3] RGB, float32:'
      ' (uint8 / 255 - mean) / std'
    ),
    'output': f'logits, [batch, {len(trained.class_names)}] float32',
    'probabilities': trained.loss.kind,
    'image_size': size,
    **preprocessing,
    'class_names': list(trained.class_names),
  }


def list_files(description: dict[str, Any]) -> dict[str, str]:
  """Returns the two files of a description, by name.

  A class whose name has a line break gets its escaped form in `labels.txt`.
  """
  names = [escape(name) for name in description['class_names']]
  labels = ''.join(name.replace('\n', '\\n') + '\n' for name in names)
  return {
    DESCRIPTION_FILE: to_json(description, indent=2),
    LABELS_FILE: labels,
  }


def _find_version() -> str:
  """Returns the version of this project, of the checkout or as installed."""
  project = pathlib.Path(__file__).parents[2] / 'pyproject.toml'
  if project.is_file():
    return tomllib.loads(project.read_text('utf-8'))['project']['version']
  return metadata.version('coatnet-jax')
