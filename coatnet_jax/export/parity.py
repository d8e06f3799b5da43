"""Whether an exported file says what the model says, and how fast."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from coatnet_jax import inference
from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.errors import UserError, cite_line
from coatnet_jax.export import reading
from coatnet_jax.training.image_normalization import normalize_images

# Largest difference of logits, as a part of their range.
_BARS = {'float32': 1e-5, 'float16': 1e-2}
# Of int8: how much less accurate it may be, as a part of the images.
_MAX_LOSS = 0.01
# How long each batch size is timed.
_SECONDS = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parity:
  """What a file says of images, compared with the model.

  Attributes:
    difference: largest difference of a logit, as a part of the range of all.
    same_top1: number of images with the same most probable class.
    count: number of images that were compared.
    top1: part of the images that the file names rightly, None without labels.
    own_top1: part of the images that the model names rightly, or None.
    runtime: name and version of what read the file.
    seconds: seconds per call of the file's runtime, by batch size.
    own_seconds: seconds per call of this project's, by batch size.
  """

  difference: float
  same_top1: int
  count: int
  top1: float | None
  own_top1: float | None
  runtime: str
  seconds: dict[int, float]
  own_seconds: dict[int, float]

  def find_fault(self, precision: str) -> str:
    """Returns what is wrong for a precision, or '' if nothing is."""
    if bar := _BARS.get(precision):
      # Also of a difference that is no number.
      if not self.difference <= bar:
        return (
          f'its logits differ from the model by {self.difference:.1e} of their'
          f' range, and {precision} may by {bar:.0e}'
        )
      return ''
    share = self.same_top1 / self.count
    if self.top1 is not None and self.own_top1 is not None:
      share = 1 + self.top1 - self.own_top1
    # A picture of 100 is a point; sums of thirds are not exact.
    if share < 1 - _MAX_LOSS - 1e-9:
      return (
        f'it names {1 - share:.1%} fewer of {self.count:,} pictures rightly'
        f' than the model, and {precision} may {_MAX_LOSS:.0%}'
      )
    return ''


def make_input(
  images: np.ndarray, trained: TrainedModel, *, with_preprocessing: bool
) -> np.ndarray:
  """Returns images as an exported file takes them.

  Args:
    images: cropped images, [N, H, W, 3] uint8, from `crop_for_evaluation`.
    trained: trained model that was exported.
    with_preprocessing: whether the file normalises images itself.
  """
  if with_preprocessing:
    return images
  preprocessing = trained.preprocessing
  return np.asarray(
    normalize_images(images, mean=preprocessing.mean, std=preprocessing.std)
  )


def check_file(
  path: pathlib.Path,
  format_name: str,
  trained: TrainedModel,
  images: np.ndarray,
  labels: np.ndarray | None,
  *,
  with_preprocessing: bool,
) -> Parity:
  """Has a file read by its own runtime, in a process without this project.

  Args:
    path: path of the exported file or directory.
    format_name: name of the format, one of `FORMATS`.
    trained: trained model that was exported.
    images: images to compare on, [N, H, W, 3] uint8.
    labels: classes of the images, [N], or None.
    with_preprocessing: whether the file normalises images itself.

  Raises:
    UserError: the file cannot be read, or names other classes.
  """
  inputs = make_input(images, trained, with_preprocessing=with_preprocessing)
  with tempfile.TemporaryDirectory() as directory:
    np.save(pathlib.Path(directory, 'images.npy'), inputs)
    ended = subprocess.run(
      [
        *(sys.executable, '-I', reading.__file__, format_name),
        *(path.absolute(), 'images.npy', 'result.npz', str(_SECONDS)),
      ],
      cwd=directory,
      env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
      capture_output=True,
      text=True,
      errors='replace',
      check=False,
    )
    if ended.returncode:
      raise UserError(
        f'What was written as {format_name} cannot be read back by its own'
        f' runtime (status {ended.returncode}: {cite_line(ended.stderr, -1)});'
        ' it is not kept. Give another --format.'
      )
    with np.load(pathlib.Path(directory, 'result.npz')) as found:
      result = {name: found[name] for name in found.files}
  facts = json.loads(str(result['facts']))
  if facts['class_names'] != list(trained.class_names):
    raise UserError(
      f'What was written as {format_name} names other classes than the model;'
      ' it is not kept. Give another --format.'
    )
  return _compare(trained, images, labels, result, facts)


def _compare(trained, images, labels, result, facts) -> Parity:
  """Returns what the model itself says, beside what the file does."""
  size = reading.BATCH_SIZE
  model = trained.model.clone(dtype=jnp.float32)
  compute = jax.jit(
    lambda variables, images: inference.compute_logits(
      variables,
      images,
      model=model,
      preprocessing=trained.preprocessing,
    )
  )

  def call(batch):
    # Or a GPU or a TPU would round the factors of its products.
    with jax.default_matmul_precision('highest'):
      return np.asarray(compute(trained.variables, batch))

  full = np.resize(images, (-(-len(images) // size) * size, *images.shape[1:]))
  own = np.concatenate([call(b) for b in np.split(full, len(full) // size)])
  own = own[: len(images)]
  call(full[:1])
  logits = result['logits']
  own_classes, classes = own.argmax(-1), logits.argmax(-1)
  differences = [
    np.abs(logits - own).max(),
    np.abs(result['singles'] - own[: len(result['singles'])]).max(),
  ]
  return Parity(
    difference=float(max(differences) / (own.max() - own.min())),
    same_top1=int((classes == own_classes).sum()),
    count=len(images),
    top1=None if labels is None else float((classes == labels).mean()),
    own_top1=None if labels is None else float((own_classes == labels).mean()),
    runtime=facts['runtime'],
    seconds={int(n): s for n, s in facts['seconds'].items()},
    own_seconds={
      1: reading.measure(call, full[:1], _SECONDS),
      size: reading.measure(call, full[:size], _SECONDS),
    },
  )
