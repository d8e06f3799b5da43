"""Folders of images and the idx files of MNIST-like sets."""

import hashlib
import os
import pathlib

import numpy as np

from coatnet_jax.data.folder_listing import (
  ClassFolders,
  check_no_splits,
  is_split,
  list_classes,
)
from coatnet_jax.data.idx import IdxSource
from coatnet_jax.data.preparation.class_lists import read_class_list
from coatnet_jax.data.preparation.examples import (
  Examples,
  PreparationSource,
  hold_out_fraction,
)
from coatnet_jax.data.preparation.verification import encode_png
from coatnet_jax.errors import UserError
from coatnet_jax.texts import printable

_EVAL_FOLDERS = ('validation', 'val', 'test')


class FolderPreparationSource(PreparationSource):
  """Image files, one folder for each class; JPEG and PNG stay as they are."""

  def __init__(
    self,
    name: str,
    directory: pathlib.Path,
    *,
    eval_fraction: float = 0.1,
    classes: pathlib.Path | None = None,
    only_split: str = '',
  ):
    """Lists the files.

    Args:
      name: name of the data set.
      directory: directory with a folder for each class; or with `train` and one
        of `validation`, `val` and `test`, which have such folders, and name the
        splits.
      eval_fraction: part that is held out where there is no such folder.
      classes: file with the names of the folders in the order of the labels,
        which may be more; else they are sorted.
      only_split: name of the only split, where nothing is to be held out.

    Raises:
      UserError: there are no images, or a folder is not a class.
    """
    self.name, self._directory = name, directory
    self.description = 'Images of a folder.'
    if not directory.is_dir():
      raise UserError(
        f'There is no folder {directory}; give the one that has the class'
        ' folders.'
      )
    if not 0 < eval_fraction < 1:
      raise UserError(
        f'eval_fraction is {eval_fraction}; it must be between 0 and 1.'
      )
    if only_split == 'all':
      raise UserError(
        "only_split is 'all', which means all splits together to TFDS; call it"
        " 'test', for example."
      )
    folders = [''] if only_split else _split_folders(directory)
    found = {folder: list_classes(directory / folder) for folder in folders}
    if folders == ['']:
      check_no_splits(
        found[''],
        'A folder of class folders is wanted, or one that has train and beside'
        f' it one of {", ".join(_EVAL_FOLDERS)}.',
      )
    self.class_names = (
      read_class_list(classes)
      if classes
      else tuple(printable(name) for name in found[folders[0]].files)
    )
    self.notes = tuple(
      f'{folder or "all"}: {listed.left_out}'
      for folder, listed in found.items()
      if listed.left_out
    )
    for folder, listed in found.items():
      named = {printable(name) for name in listed.files}
      unknown = sorted(named - set(self.class_names))
      if unknown:
        raise UserError(
          f'{directory / folder} has folders that are not classes of'
          f' {classes or directory / folders[0]}: {", ".join(unknown[:5])}.'
        )
    examples = {folder: self._list(folder, found[folder]) for folder in folders}
    if only_split:
      self.splits = {only_split: examples['']}
    elif folders == ['']:
      train, held_out = hold_out_fraction(examples[''], eval_fraction)
      self.splits = {'train': train, 'validation': held_out}
    else:
      self.splits = examples

  def _list(self, folder: str, listed: ClassFolders) -> Examples:
    prefix = folder and f'{folder}/'
    numbers = {name: label for label, name in enumerate(self.class_names)}
    names, labels = [], []
    for class_name, file_names in listed.files.items():
      names += [f'{prefix}{class_name}/{name}' for name in file_names]
      labels += [numbers[printable(class_name)]] * len(file_names)
    sizes = [os.stat(self._directory / name).st_size for name in names]
    return Examples(
      names=np.array([os.fsencode(name) for name in names], 'S'),
      labels=np.array(labels, np.int32),
      files=np.zeros(len(names), np.int32),
      offsets=np.zeros(len(names), np.int64),
      sizes=np.array(sizes, np.int64),
    )

  def read(self, examples, index):
    """Returns one image's file; see PreparationSource."""
    name = os.fsdecode(bytes(examples.names[index]))
    return (self._directory / name).read_bytes()


def _split_folders(directory: pathlib.Path) -> list[str]:
  """Returns 'train' and what is beside it, or [''] if it is not there."""
  beside = [name for name in _EVAL_FOLDERS if (directory / name).is_dir()]
  if not is_split(directory, 'train', beside[0] if beside else ''):
    return ['']
  return ['train', *beside]


class IdxPreparationSource(PreparationSource):
  """The four idx files of an MNIST-like set; pixels become greyscale PNG."""

  encoding_format = 'png'

  def __init__(self, name: str, directory: pathlib.Path):
    """Reads the files.

    Args:
      name: name of the data set.
      directory: directory of the files, gzipped or not, and of class_names.txt
        if there are names.

    Raises:
      UserError: a file is missing, damaged or of another kind.
    """
    self.name, self.description = name, 'Images of idx files.'
    self._sources = {
      split: IdxSource(directory, split) for split in ('train', 'test')
    }
    self.class_names = self._sources['train'].class_names
    height, width, _ = self._sources['train'][0]['image'].shape
    self.image_shape = (height, width, 1)
    digest = hashlib.sha256()
    self.splits = {}
    for file, (split, source) in enumerate(self._sources.items()):
      pixels = [source[i]['image'][..., 0] for i in range(len(source))]
      digest.update(b''.join(image.tobytes() for image in pixels))
      self.splits[split] = Examples(
        names=np.array(
          [f'{split}/{i:06d}'.encode() for i in range(len(source))]
        ),
        labels=np.array(
          [source[i]['label'] for i in range(len(source))], np.int32
        ),
        files=np.full(len(source), file, np.int32),
        offsets=np.arange(len(source)),
        sizes=np.full(len(source), height * width, np.int64),
      )
      if self.splits[split].labels.max() >= self.num_classes:
        raise UserError(
          f'{directory} has a label {self.splits[split].labels.max()} in'
          f' {split!r} and {self.num_classes} classes.'
        )
    self.content = digest.hexdigest()

  @property
  def num_classes(self) -> int:
    """The number of classes."""
    return len(self.class_names)

  def read(self, examples, index):
    """Returns one image as PNG; see PreparationSource."""
    source = list(self._sources.values())[examples.files[index]]
    return encode_png(source[int(examples.offsets[index])]['image'][..., 0])
