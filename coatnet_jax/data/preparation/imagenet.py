"""ImageNet from its published archives, which are never unpacked."""

import functools
import io
import os
import pathlib
import tarfile
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
import scipy.io

from coatnet_jax.data.image_source import format_count
from coatnet_jax.data.known_datasets import get_known_dataset
from coatnet_jax.data.preparation import class_lists
from coatnet_jax.data.preparation.archives import Member, list_members
from coatnet_jax.data.preparation.examples import (
  Examples,
  PreparationSource,
  concatenate,
  hold_out_fraction,
  hold_out_per_class,
)
from coatnet_jax.data.preparation.worker_pool import map_in_processes
from coatnet_jax.errors import UserError
from coatnet_jax.paths import describe_special_file

_META_FILE = 'meta.mat'
_GROUND_TRUTH_FILE = 'ILSVRC2012_validation_ground_truth.txt'
# What is read of the devkit, and the size of either file in it; they have 2 MB
# and 300 kB.
_MAX_DEVKIT_BYTES = 1 << 26
_MAX_LIST_BYTES = 1 << 20
# As many of each class as the published split of ImageNet-21K-P.
_P_EVAL_PER_CLASS = 50
# Below it, to start processes takes longer than to read all headers.
_LISTED_ALONE_BYTES = 10**10
# Class archives between two lines of progress.
_SHOWN_EVERY = 500


class ArchiveSource(PreparationSource):
  """Images in tar archives, read where they lie; all are made JPEG."""

  encoding_format = 'jpeg'

  def __init__(
    self,
    name: str,
    version: str,
    description: str,
    class_names: tuple[str, ...],
    archives: tuple[pathlib.Path, ...],
    splits: dict[str, Examples],
    notes: tuple[str, ...] = (),
  ):
    """Takes what the functions below have found; see PreparationSource."""
    self.name, self.version, self.description = name, version, description
    self.class_names, self.splits, self.notes = class_names, splits, notes
    self._archives = archives
    self._open_files: dict[int, BinaryIO] = {}

  def __getstate__(self):
    """Leaves out what is open, for worker processes."""
    return self.__dict__ | {'_open_files': {}}

  def read(self, examples, index):
    """Returns one image's file; see PreparationSource."""
    file = int(examples.files[index])
    if file not in self._open_files:
      self._open_files[file] = open(self._archives[file], 'rb')  # noqa: SIM115
    size, offset = int(examples.sizes[index]), int(examples.offsets[index])
    data = os.pread(self._open_files[file].fileno(), size, offset)
    if len(data) < size:
      raise UserError(
        f'{self._archives[file]} has become shorter while it was read; run'
        ' the same command again.'
      )
    return data


def create_imagenet2012(
  train_archive: pathlib.Path,
  validation_archive: pathlib.Path,
  *,
  devkit: pathlib.Path | None = None,
  classes: pathlib.Path | None = None,
  num_workers: int = 1,
  show: Callable[[str], None] = lambda line: None,
) -> ArchiveSource:
  """Finds the images of ImageNet-1k.

  Args:
    train_archive: path of ILSVRC2012_img_train.tar, a tar archive for each
      class.
    validation_archive: path of ILSVRC2012_img_val.tar.
    devkit: path of ILSVRC2012_devkit_t12.tar.gz, for the validation labels;
      those in TFDS are taken without it.
    classes: file with another class list than that of the 1,000.
    num_workers: number of processes that list archives.
    show: function that takes lines on the progress.

  Returns:
    The splits 'train' and 'validation'.

  Raises:
    UserError: a file is missing, broken or of another data set.
  """
  class_names = (
    class_lists.read_class_list(classes)
    if classes
    else class_lists.read_imagenet2012_classes()
  )
  images = sorted(
    list_members(validation_archive), key=lambda member: member.base_name
  )
  if not images:
    raise UserError(f'{validation_archive} is an empty archive; get it again.')
  labels = (
    read_devkit(devkit)
    if devkit
    else class_lists.read_imagenet2012_validation_labels()
  )
  if len(labels) != len(images):
    raise UserError(
      f'{validation_archive} has {len(images):,} images and there are'
      f' {len(labels):,} labels for them in {devkit or "TFDS"}; they are not'
      ' of one data set.'
    )
  _check_class_names(set(labels), class_names, devkit or 'TFDS')
  numbers = {name: label for label, name in enumerate(class_names)}
  members = _list_class_archives(train_archive, num_workers, show)
  _check_class_names(set(members), class_names, train_archive)
  _check_not_missing(class_names, members, train_archive)
  validation = _create_examples(images, 0, file=1)
  validation.labels[:] = [numbers[label] for label in labels]
  train = _number_classes(members, class_names)
  return ArchiveSource(
    'imagenet2012',
    '5.1.0',
    'ImageNet-1k, ILSVRC 2012.',
    class_names,
    (train_archive, validation_archive),
    {'train': train, 'validation': validation},
    _note_other_count('imagenet2012', len(train) + len(validation)),
  )


def create_imagenet21k(
  name: str,
  archive: pathlib.Path,
  *,
  classes: pathlib.Path | None = None,
  leave_out_other_classes: bool = False,
  eval_fraction: float = 0.004,
  num_workers: int = 1,
  show: Callable[[str], None] = lambda line: None,
) -> ArchiveSource:
  """Finds the images of ImageNet-21k.

  Args:
    name: 'imagenet21k_fall11', 'imagenet21k_winter21' or 'imagenet21k_p', the
      classes of the second that have 500 images.
    archive: path of the archive, with a tar archive for each synset.
    classes: file with the class list instead.
    leave_out_other_classes: whether the archive may have more than those.
    eval_fraction: approximate part to hold out as 'validation'; of
      'imagenet21k_p' it is 50 of each class.
    num_workers: number of processes that list archives.
    show: function that takes lines on the progress.

  Returns:
    The splits 'train' and 'validation'.

  Raises:
    UserError: the archive is missing, broken or of another release.
  """
  if not 0 < eval_fraction < 1:
    raise UserError(
      f'eval_fraction is {eval_fraction}; it must be between 0 and 1.'
    )
  members = _list_class_archives(archive, num_workers, show)
  if classes:
    class_names = class_lists.read_class_list(classes)
    if not leave_out_other_classes:
      _check_class_names(set(members), class_names, archive)
    _check_not_missing(class_names, members, archive)
  else:
    class_names = class_lists.derive_imagenet21k_classes(
      name, {key: len(part) for key, part in members.items()}
    )
  notes: tuple[str, ...] = ()
  if len(class_names) < len(members):
    notes = (
      f'{len(members) - len(class_names):,} classes of the archive are not in'
      ' the class list and were left out.',
    )
  examples = _number_classes(members, class_names)
  notes += _note_other_count(name, len(examples))
  if name == 'imagenet21k_p':
    train, validation = hold_out_per_class(examples, _P_EVAL_PER_CLASS)
  else:
    train, validation = hold_out_fraction(examples, eval_fraction)
  return ArchiveSource(
    name,
    '1.0.0',
    f'ImageNet-21k, {len(class_names):,} classes; the validation split is held'
    ' out by hashes of the file names.',
    class_names,
    (archive,),
    {'train': train, 'validation': validation},
    notes,
  )


def read_devkit(path: pathlib.Path) -> tuple[str, ...]:
  """Reads the validation labels from ILSVRC2012_devkit_t12.tar.gz.

  It numbers classes from 1 in an order of its own, which its meta.mat gives.

  Args:
    path: path of the archive.

  Returns:
    The synset of each validation image, sorted by the image's name.

  Raises:
    UserError: it is missing or not the devkit.
  """
  if kind := describe_special_file(path):
    raise UserError(f'{path} is {kind}, not a file.')
  files = {}
  try:
    with tarfile.open(path) as archive:
      # In memory: nothing is unpacked.
      for member in archive:
        if member.offset_data + member.size > _MAX_DEVKIT_BYTES:
          break
        name = member.name.rsplit('/', 1)[-1]
        is_wanted = name in (_META_FILE, _GROUND_TRUTH_FILE)
        if is_wanted and member.isfile() and member.size <= _MAX_LIST_BYTES:
          files[name] = archive.extractfile(member).read()
    synsets = scipy.io.loadmat(
      io.BytesIO(files[_META_FILE]), squeeze_me=True, struct_as_record=False
    )['synsets']
    names = {int(s.ILSVRC2012_ID): str(s.WNID) for s in np.ravel(synsets)}
    numbers = files[_GROUND_TRUTH_FILE].split()
    return tuple(names[int(number)] for number in numbers)
  except OSError as error:
    raise UserError(f'{path} cannot be read: {error}.') from error
  except Exception as error:  # tarfile and SciPy raise nearly anything.
    raise UserError(
      f'{path} is not the ILSVRC 2012 devkit: {_META_FILE} and'
      f' {_GROUND_TRUTH_FILE} are not in it as they should be.'
    ) from error


def _list_class_archives(
  path: pathlib.Path, num_workers: int, show: Callable[[str], None]
) -> dict[str, Examples]:
  """Lists an archive of archives; returns the images by class."""
  outer = list(list_members(path))
  for member in outer:
    if not member.name.endswith('.tar'):
      raise UserError(
        f'{path} has a member {member.name}, which is not a tar archive of a'
        ' class; it is not one of the published archives.'
      )
  names = [member.base_name.removesuffix('.tar') for member in outer]
  if not names or len(set(names)) < len(names):
    raise UserError(
      f'{path} has no class archives, or one of them twice; it is not one of'
      ' the published archives.'
    )
  show(f'{path}: listing {len(names):,} class archives.')
  if sum(member.size for member in outer) < _LISTED_ALONE_BYTES:
    num_workers = 1
  list_class = functools.partial(_list_class, path)
  found = {}
  for name, examples in zip(
    names, map_in_processes(list_class, outer, num_workers)
  ):
    found[name] = examples
    if len(found) % _SHOWN_EVERY == 0:
      show(f'{len(found):,} of {len(names):,} class archives are listed.')
  return found


def _list_class(path: pathlib.Path, archive: Member) -> Examples:
  return _create_examples(list(list_members(path, archive)), -1, file=0)


def _create_examples(members: list[Member], label: int, file: int) -> Examples:
  return Examples(
    names=np.array(
      [m.base_name.encode(errors='surrogateescape') for m in members], 'S'
    ),
    labels=np.full(len(members), label, np.int32),
    files=np.full(len(members), file, np.int32),
    offsets=np.array([m.offset for m in members], np.int64),
    sizes=np.array([m.size for m in members], np.int64),
  )


def _note_other_count(name: str, found: int) -> tuple[str, ...]:
  """Says so if there are not as many images as are known to be.

  It is no error: there are archives with a few images more or less.
  """
  known = get_known_dataset(name)
  expected = known.num_train_examples + known.num_eval_examples
  if found == expected:
    return ()
  return (f'The archives have {found:,} images and {name} has {expected:,}.',)


def _number_classes(
  members: dict[str, Examples], class_names: tuple[str, ...]
) -> Examples:
  for label, name in enumerate(class_names):
    members[name].labels[:] = label
  return concatenate([members[name] for name in class_names])


def _check_class_names(found: set[str], class_names, where) -> None:
  unknown = sorted(found - set(class_names))
  if unknown:
    raise UserError(
      f'{where} has {format_count(len(unknown), "class")} not in the class list'
      f' of {len(class_names):,}, {", ".join(unknown[:3])} among them; it is'
      ' another release, or the list is of another one.'
    )


def _check_not_missing(class_names, found, where) -> None:
  missing = [name for name in class_names if name not in found]
  if missing:
    raise UserError(
      f'{where} lacks {len(missing):,} of the {len(class_names):,} classes of'
      f' the class list, {", ".join(missing[:3])} among them; it is truncated,'
      ' or the list is of another release.'
    )
