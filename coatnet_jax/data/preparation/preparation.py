"""All shards of a data set, over processes, so that it can be resumed.

A data set is complete when dataset_info.json is there, which comes last. Until
then its folder has a folder `.preparing`, with the plan and a note of each
shard that is whole.
"""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator

import humanize
import numpy as np

from coatnet_jax.data.image_source import format_count
from coatnet_jax.data.preparation import metadata, report
from coatnet_jax.data.preparation.examples import PreparationSource
from coatnet_jax.data.preparation.shards import (
  WORK_FOLDER,
  Shard,
  WrittenShard,
  explain_disk_errors,
  read_note,
)
from coatnet_jax.data.preparation.verification import DEFAULT_MAX_PIXELS
from coatnet_jax.data.preparation.worker_pool import write_shards
from coatnet_jax.errors import UserError, explain_choice
from coatnet_jax.strict_json import to_json

ShardWriter = Callable[
  [PreparationSource, list[Shard]], Iterator[tuple[Shard, WrittenShard]]
]
# Changes when the same images come to other bytes, so that shards of two
# versions of this code are not mixed.
_FORMAT_VERSION = 1
# Bytes of a record beside its image, and of a file beside its records: it is
# filled up to a multiple of 64 KiB.
_RECORD_OVERHEAD_BYTES = 200
_SHARD_OVERHEAD_BYTES = 2 * 65536
# Bytes that are left free on the disk for others.
_SPARE_BYTES = 64 * 2**20
_SECONDS_BETWEEN_LINES = 5
# What order images can be written in.
ORDERS = ('shuffled', 'source')


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparationOptions:
  """How a data set is written.

  Attributes:
    output_dir: TFDS data directory; NAME/VERSION is made in it.
    num_workers: number of processes; the files are the same for any number.
    shard_mebibytes: approximate size of a shard, in units of 2**20 bytes.
    order: 'shuffled', by hashes of the names, so that a part of a split is a
      fair sample; or 'source', which reads archives from front to back.
    max_pixels: largest number of pixels of an image; larger ones are dropped.
  """

  output_dir: pathlib.Path
  num_workers: int = 1
  shard_mebibytes: float = 128
  order: str = 'shuffled'
  max_pixels: int = DEFAULT_MAX_PIXELS

  def __post_init__(self):
    """Checks the values; a UserError says which is impossible."""
    check_is_local(self.output_dir)
    for key in ('num_workers', 'shard_mebibytes', 'max_pixels'):
      if not getattr(self, key) > 0:
        raise UserError(
          f'{key} is {getattr(self, key)}; it must be greater than 0.'
        )
    if self.order not in ORDERS:
      raise UserError(explain_choice('order', self.order, ORDERS))


def check_is_local(output_dir: pathlib.Path) -> None:
  """Raises a UserError for a bucket, gs://NAME, which is not written to."""
  first = output_dir.parts[0] if output_dir.parts else ''
  if first.endswith(':'):
    raise UserError(
      f'--output_dir is on {first}//, and data sets are written to disks; copy'
      ' it when it is complete, by `gsutil -m cp -r`.'
    )


def get_data_set_directory(
  source: PreparationSource, options: PreparationOptions
) -> pathlib.Path:
  """Returns where a data set is written."""
  return options.output_dir / source.name / source.version


def plan_shards(
  source: PreparationSource, options: PreparationOptions
) -> dict[str, list[Shard]]:
  """Divides the images over shards of about equal numbers.

  Args:
    source: images to prepare.
    options: size of the shards, and order of the images.

  Returns:
    The shards of each split. Depends on the images' names, sizes and places
    and on the options, and not on the number of workers.
  """
  directory = get_data_set_directory(source, options)
  shards = {}
  for split, examples in source.splits.items():
    if options.order == 'shuffled':
      examples = examples.shuffle()
    shard_bytes = options.shard_mebibytes * 2**20
    count = max(int(np.ceil(examples.sizes.sum() / shard_bytes)), 1)
    count = min(count, max(len(examples), 1))
    bounds = [len(examples) * i // count for i in range(count + 1)]
    shards[split] = [
      Shard(
        directory,
        f'{source.name}-{split}.array_record-{i:05d}-of-{count:05d}',
        examples.select(slice(bounds[i], bounds[i + 1])),
        options.max_pixels,
      )
      for i in range(count)
    ]
  return shards


def estimate_bytes(shards: list[Shard]) -> int:
  """Returns about how many bytes shards will take on the disk."""
  return sum(
    int(shard.examples.sizes.sum())
    + len(shard.examples) * _RECORD_OVERHEAD_BYTES
    + _SHARD_OVERHEAD_BYTES
    for shard in shards
  )


def prepare(
  source: PreparationSource,
  options: PreparationOptions,
  show: Callable[[str], None] = lambda line: None,
  write: ShardWriter | None = None,
) -> pathlib.Path:
  """Writes a data set, or what is missing of it.

  Args:
    source: images to prepare.
    options: output directory, workers, shards and order.
    show: function that takes lines on the progress.
    write: function that writes shards and yields them; None for processes of
      this machine.

  Returns:
    The directory, which `tfds.builder_from_directory` reads; with report.json,
    report.txt and checksums.sha256 in it.

  Raises:
    UserError: another data set is there, or is being written there; or the
      disk is too small or full. What is whole stays.
  """
  directory = get_data_set_directory(source, options)
  plan = _plan_of(source, options)
  if _is_complete(directory, plan):
    show(f'{directory} is complete already.')
    return directory
  for split, examples in source.splits.items():
    if not len(examples):
      raise UserError(
        f'There are no images for the split {split!r} of {source.name}: hold'
        ' out another part, or give it a folder of its own.'
      )
  with _exclusive(directory):
    _begin_or_resume(directory, plan)
    shards = plan_shards(source, options)
    if write is None:
      write = functools.partial(write_shards, num_workers=options.num_workers)
    written = _write_missing(source, shards, write, show)
    _check_not_empty(source, written)
    with explain_disk_errors(directory):
      _finish(source, directory, shards, written, plan)
  return directory


def _plan_of(source: PreparationSource, options: PreparationOptions) -> str:
  """Returns what the bytes of the data set depend on, as JSON."""
  plan = {
    'format_version': _FORMAT_VERSION,
    'name': source.name,
    'class_names': hashlib.sha256(
      '\n'.join(source.class_names).encode(errors='surrogateescape')
    ).hexdigest(),
    'encoding_format': source.encoding_format,
    'image_shape': list(source.image_shape),
    'content': source.content,
    'splits': {
      split: [len(examples), examples.compute_fingerprint()]
      for split, examples in source.splits.items()
    },
    'shard_mebibytes': options.shard_mebibytes,
    'order': options.order,
    'max_pixels': options.max_pixels,
  }
  return to_json(plan, indent=1)


def _is_complete(directory: pathlib.Path, plan: str) -> bool:
  """Whether the data set is there; a UserError if another one is."""
  if not (directory / 'dataset_info.json').exists():
    return False
  plan_path = directory / metadata.PLAN_FILE
  if not plan_path.is_file() or plan_path.read_text(encoding='utf-8') != plan:
    raise UserError(
      f'{directory} has a data set already, not of these images with these'
      ' options; move it away or choose another output directory.'
    )
  return True


@contextlib.contextmanager
def _exclusive(directory: pathlib.Path) -> Iterator[None]:
  """Holds a lock that ends with the process, however it ends."""
  work_folder = directory / WORK_FOLDER
  try:
    work_folder.mkdir(parents=True, exist_ok=True)
    lock = open(work_folder / 'lock', 'wb')  # noqa: SIM115
  except OSError as error:
    raise UserError(f'{directory} cannot be made: {error.strerror}.') from error
  with lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise UserError(
        f'Another process is preparing {directory}; wait for it or end it.'
      ) from error
    yield


def _begin_or_resume(directory: pathlib.Path, plan: str) -> None:
  """Records the plan, or checks that it is the one that was begun with."""
  work_folder = directory / WORK_FOLDER
  for path in work_folder.glob('*.unfinished'):
    path.unlink(missing_ok=True)
  plan_path = work_folder / metadata.PLAN_FILE
  if not plan_path.exists():
    foreign = [path.name for path in directory.glob('*.array_record-*')]
    if foreign:
      raise UserError(
        f'{directory} has files of another data set ({foreign[0]}); move them'
        ' away or choose another output directory.'
      )
    metadata.write_text(plan_path, plan)
  elif plan_path.read_text(encoding='utf-8') != plan:
    raise UserError(
      f'{directory} was begun with other images or other options; give the'
      ' same ones to resume, or remove it to begin again.'
    )


def _write_missing(
  source: PreparationSource,
  shards: dict[str, list[Shard]],
  write: ShardWriter,
  show: Callable[[str], None],
) -> dict[str, list[WrittenShard]]:
  """Writes the shards that are not whole; returns all."""
  notes = {s.file_name: read_note(s) for part in shards.values() for s in part}
  missing = [
    shard
    for part in shards.values()
    for shard in part
    if notes[shard.file_name] is None
  ]
  if len(missing) < len(notes):
    show(f'{len(notes) - len(missing):,} of {len(notes):,} shards are there.')
  if missing:
    _check_room(missing, show)
  # The shards wait without their images' places, which would be copied.
  source = _copy_without_examples(source)
  num_images, start = 0, time.monotonic()
  shown = start
  total = sum(len(shard.examples) for shard in missing)
  for i, (shard, written) in enumerate(write(source, missing), start=1):
    notes[shard.file_name] = written
    num_images += len(shard.examples)
    now = time.monotonic()
    if i < len(missing) and now - shown < _SECONDS_BETWEEN_LINES:
      continue
    shown = now
    rate = num_images / max(now - start, 1e-6)
    show(
      f'shard {i:,} of {len(missing):,}, {num_images:,} of'
      f' {format_count(total, "image")}, {rate:,.0f} images/s,'
      f' {(total - num_images) / rate / 60:,.0f} min left'
    )
  return {
    split: [notes[shard.file_name] for shard in part]
    for split, part in shards.items()
  }


def _check_room(missing: list[Shard], show: Callable[[str], None]) -> None:
  """Shows the disk estimate; a UserError if there is no room for it."""
  needed = estimate_bytes(missing)
  free = shutil.disk_usage(missing[0].directory).free
  show(
    f'To write: {len(missing):,} shards, about {humanize.naturalsize(needed)};'
    f' {humanize.naturalsize(free)} are free.'
  )
  if needed + _SPARE_BYTES > free:
    raise UserError(
      f'{missing[0].directory} needs'
      f' {humanize.naturalsize(needed + _SPARE_BYTES)} and'
      f' {humanize.naturalsize(free)} are free; make room or choose another'
      ' output directory.'
    )


def _copy_without_examples(source: PreparationSource) -> PreparationSource:
  """Returns a copy for worker processes, which get their images by shard."""
  copied = object.__new__(type(source))
  copied.__dict__.update(source.__dict__, splits={})
  return copied


def _check_not_empty(
  source: PreparationSource, written: dict[str, list[WrittenShard]]
) -> None:
  for split, part in written.items():
    if not sum(shard.num_examples for shard in part):
      dropped = next(shard.dropped[0] for shard in part if shard.dropped)
      raise UserError(
        f'No image of the split {split!r} of {source.name} is good; the first'
        f' one, {dropped[0]}: {dropped[1]}.'
      )


def _finish(
  source: PreparationSource,
  directory: pathlib.Path,
  shards: dict[str, list[Shard]],
  written: dict[str, list[WrittenShard]],
  plan: str,
) -> None:
  """Writes what is beside the shards, dataset_info.json last."""
  summary = report.summarize(
    f'{source.name}/{source.version}',
    source.class_names,
    written,
    source.notes,
  )
  checksums = ''.join(
    f'{done.sha256}  {shard.file_name}\n'
    for split, part in shards.items()
    for shard, done in zip(part, written[split])
  )
  metadata.write_text(directory / 'report.json', report.format_json(summary))
  metadata.write_text(directory / 'report.txt', report.format_text(summary))
  metadata.write_text(directory / 'checksums.sha256', checksums)
  metadata.write_text(directory / metadata.PLAN_FILE, plan)
  metadata.write_data_set_info(source, directory, written)
  shutil.rmtree(directory / WORK_FOLDER)
