"""What a run's curves are written to, each behind clu's `MetricWriter`.

To import this module takes TensorFlow along, which takes seconds: `curves.py`
does so when it opens them.
"""

import os
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from clu import metric_writers
from etils import epath

from coatnet_jax.paths import write_whole
from coatnet_jax.training.csv_rows import CsvRows

# Says which run of Weights & Biases a workdir's is, when it is resumed.
WANDB_FILE = 'wandb_run.txt'
_WANDB_PROJECT = 'coatnet_jax'


class _ScalarsAlone(metric_writers.MetricWriter):
  """A writer of numbers alone, but for what a subclass writes besides."""

  def _leave_out(self, *args: Any, **options: Any) -> None:
    """Writes nothing."""

  write_summaries = write_images = write_videos = write_audios = _leave_out
  write_texts = write_histograms = write_pointcloud = _leave_out
  write_hparams = flush = close = _leave_out


class CsvWriter(_ScalarsAlone):
  """Writes numbers to the CSV files of a workdir: `csv_rows.py`."""

  def __init__(self, workdir: str):
    """Takes the directory of the run, perhaps gs://..."""
    self._rows = CsvRows(workdir)

  def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
    """Writes a row of numbers by name."""
    numbers = {name: float(value) for name, value in scalars.items()}
    self._rows.write(step, numbers)


class WandbWriter(_ScalarsAlone):
  """Writes numbers and pictures to a run of Weights & Biases.

  A workdir that is resumed goes on with the same run there, which leaves out
  the steps that it has already. `WANDB_PROJECT`, `WANDB_MODE` and all other
  variables of that package count as ever.
  """

  def __init__(self, workdir: str, config: Mapping[str, Any]):
    """Begins the run, or resumes it.

    Args:
      workdir: directory of the run, perhaps gs://...
      config: config of the run.
    """
    import wandb  # Optional.

    self._wandb = wandb
    is_local = '://' not in workdir
    self._run = wandb.init(
      project=os.environ.get('WANDB_PROJECT', _WANDB_PROJECT),
      id=_find_wandb_id(epath.Path(workdir)),
      name=epath.Path(workdir).name,
      dir=workdir if is_local else None,
      config=dict(config),
      resume='allow',
      settings=wandb.Settings(console='off', silent=True),
    )

  def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
    """Writes a row of numbers by name."""
    numbers = {name: float(value) for name, value in scalars.items()}
    self._run.log(numbers, step=step)

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Writes pictures by name, each [B, H, W, 3] uint8."""
    pictures = {
      name: [self._wandb.Image(picture) for picture in batch]
      for name, batch in images.items()
    }
    self._run.log(pictures, step=step)

  def close(self) -> None:
    """Sends what is left."""
    self._run.finish()


def _find_wandb_id(workdir: epath.Path) -> str:
  """Returns the name of a workdir's run, which is made up the first time."""
  path = workdir / WANDB_FILE
  if not path.exists():
    write_whole(path, uuid.uuid4().hex[:12] + '\n')
  return path.read_text().strip()


def list_openers(
  workdir: str, names: tuple[str, ...], config: Mapping[str, Any]
) -> dict[str, Callable[[], metric_writers.MetricWriter]]:
  """Returns functions that open writers, by what is written, for a sentence.

  All but the first process write to the log alone.

  Args:
    workdir: directory of the run, perhaps gs://...
    names: names of `config.logging.writers`.
    config: config of the run.
  """
  is_first = jax.process_index() == 0
  openers = {
    'The files for TensorBoard': lambda: metric_writers.create_default_writer(
      workdir, just_logging=not is_first or 'tensorboard' not in names
    )
  }
  if is_first and 'csv' in names:
    openers['The CSV files'] = lambda: CsvWriter(workdir)
  if is_first and 'wandb' in names:
    openers['The run of Weights & Biases'] = lambda: WandbWriter(
      workdir, config
    )
  return openers
