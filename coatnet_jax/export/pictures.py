"""Real pictures for an export: to compare on, and to find ranges of int8."""

import dataclasses

import numpy as np

from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.data.batching import create_eval_batches
from coatnet_jax.data.image_source import DerivedSource, ImageSource
from coatnet_jax.data.sources import DataOptions, create_source
from coatnet_jax.errors import UserError


class _Spread(DerivedSource):
  """Some pictures of a source, as far from each other as they can be."""

  def __init__(self, source: ImageSource, count: int):
    """Takes the source, and how many pictures there are at most."""
    super().__init__(source)
    count = min(count, len(source))
    self._numbers = np.linspace(0, len(source) - 1, count).astype(int)

  def __len__(self) -> int:
    """The number of pictures."""
    return len(self._numbers)

  def __getitem__(self, index: int) -> dict:
    """Returns one example; see ImageSource."""
    return self._source[int(self._numbers[index])]

  def describe(self, index: int) -> str:
    """Names the example for a log."""
    return self._source.describe(int(self._numbers[index]))


def read_split(
  trained: TrainedModel, split: str, count: int
) -> tuple[np.ndarray, np.ndarray | None]:
  """Returns pictures of the run's own data, evenly spread over a split.

  Args:
    trained: trained model, whose config says where its data are.
    split: 'train' or 'eval'.
    count: largest number of pictures.

  Returns:
    Pictures as evaluation crops them, [N, H, W, 3] uint8, and their classes,
    [N], or None where a picture has several.

  Raises:
    UserError: the data are not there, or have no picture that can be decoded.
  """
  # Few pictures are read: no more are to be decoded first.
  data = dataclasses.replace(
    DataOptions(**trained.config.data), cache_mebibytes=0, num_workers=0
  )
  try:
    source = create_source(data, split)
  except UserError as error:
    raise UserError(
      f"The run's own data cannot be read ({str(error).rstrip('.')}): give"
      ' pictures to check the export on, files or directories, after the'
      ' options.'
    ) from error
  has_several_labels = source.has_several_labels
  source = _Spread(source, count)
  batches = create_eval_batches(
    source,
    data=data,
    preprocessing=trained.preprocessing,
    global_batch_size=len(source),
  )
  (batch,) = batches
  valid = batch['mask']
  if not valid.any():
    raise UserError(
      f'{source.description}: none of {len(source):,} pictures can be decoded;'
      ' give others to check the export on, after the options.'
    )
  labels = None if has_several_labels else batch['label'][valid]
  return batch['image'][valid], labels
