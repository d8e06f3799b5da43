"""Which data set is evaluated, and by the rule that the field has for it.

TFDS's data sets are known by their name, or by the name in a prepared
directory's dataset_info.json. Everything else is evaluated plainly.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Callable, Sequence

from coatnet_jax.data.augmentation import PreprocessingOptions
from coatnet_jax.data.image_source import CorruptImageError, ImageSource
from coatnet_jax.data.sources import DataOptions, create_source
from coatnet_jax.errors import UserError
from coatnet_jax.evaluation.label_spaces import LabelSpace, match_classes

CORRUPTED = 'imagenet2012_corrupted'
REAL = 'imagenet2012_real'

# The split of TFDS's data sets that exist to evaluate models of ImageNet.
SPLITS = {
  'imagenet2012': 'validation',
  REAL: 'validation',
  CORRUPTED: 'validation',
  'imagenet_a': 'test',
  'imagenet_r': 'test',
  'imagenet_sketch': 'test',
  'imagenet_v2': 'test',
}
# TFDS gives these sets all of ImageNet's classes; so many of them occur.
CLASSES_THAT_OCCUR = {'imagenet_a': 200, 'imagenet_r': 200}

# What decides which images of a folder are trained on.
_DIVIDING = (
  *('train_split', 'eval_split', 'eval_fraction'),
  *('num_folds', 'fold', 'group_pattern'),
)
_RULE_REAL = (
  'ReaL: right is any of the labels of an image, and one without labels does'
  ' not count; loss and classes are those of the original label'
)
_RULE_CORRUPTED = 'the whole image is used, which was cropped when prepared'


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationData:
  """Images with what is counted as right.

  Attributes:
    source: images to evaluate on.
    data: options that the source was opened by.
    space: meaning that the labels have to the model.
    preprocessing: preprocessing of the images.
    rules: differences from plain top-1 over all classes, for people.
    label_sets: function from an image's index to its labels, where it may have
      several.
  """

  source: ImageSource
  data: DataOptions
  space: LabelSpace
  preprocessing: PreprocessingOptions
  rules: tuple[str, ...]
  label_sets: Callable[[int], Sequence[int]] | None = None


def identify(data: DataOptions) -> tuple[str, str]:
  """Returns TFDS's name of a data set and its config, both without version.

  Args:
    data: options with the name of a data set, or the directory of a prepared
      one.

  Returns:
    ('imagenet_v2', 'matched-frequency'), ('imagenet_a', ''), or two empty
    strings for what is not of TFDS.
  """
  if data.source != 'tfds':
    return '', ''
  if data.name:
    name, _, config = data.name.split(':')[0].partition('/')
    return name, '' if re.fullmatch(r'[\d.]+', config) else config.split('/')[0]
  path = pathlib.Path(data.data_dir, 'dataset_info.json')
  try:
    info = json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError):
    return '', ''  # Opening it says what is wrong.
  return info.get('name', ''), info.get('configName', '')


def add_usual_split(data: DataOptions) -> DataOptions:
  """Returns the data with the split that the field evaluates on."""
  split = SPLITS.get(identify(data)[0], data.eval_split)
  return dataclasses.replace(data, eval_split=split)


def hold_nothing_out(data: DataOptions, own: DataOptions) -> DataOptions:
  """Returns the data with all images of a folder to be evaluated.

  A folder without splits is held out in part only where it is what the model
  was trained on.

  Args:
    data: options of the data to be evaluated.
    own: options of the data that the model was trained on.
  """
  if data.source != 'folder' or _is_same_folder(data, own):
    return data
  return dataclasses.replace(
    data, eval_fraction=1.0, num_folds=0, fold=0, group_pattern=''
  )


def _is_same_folder(data: DataOptions, own: DataOptions) -> bool:
  return data.source == own.source == 'folder' and (
    os.path.realpath(data.data_dir) == os.path.realpath(own.data_dir)
  )


def count_trained_on(
  source: ImageSource, data: DataOptions, own: DataOptions
) -> int:
  """Returns how many images of a folder or list were trained on.

  Nothing is looked at where the data are divided as they were in training, or
  lie elsewhere; and 0 is also what is known of a folder that cannot be divided
  as in training any more.

  Args:
    source: images to evaluate on.
    data: options that they were opened by.
    own: options of the data that the model was trained on.
  """
  is_same = all(getattr(data, key) == getattr(own, key) for key in _DIVIDING)
  if is_same or not _is_same_folder(data, own):
    return 0

  def list_paths(source: ImageSource, data_dir: str) -> list[str]:
    paths = (source.find_path(index) for index in range(len(source)))
    return [os.path.relpath(path, data_dir) for path in paths]

  try:
    trained = create_source(own, 'train')
  except UserError:
    return 0  # The folder has changed since, and nobody knows.
  trained_on = set(list_paths(trained, own.data_dir))
  return sum(path in trained_on for path in list_paths(source, data.data_dir))


def open_evaluation_data(
  data: DataOptions,
  *,
  own: DataOptions | None = None,
  class_names: Sequence[str],
  preprocessing: PreprocessingOptions,
  report: Callable[[str], None],
) -> EvaluationData:
  """Opens the evaluation split of a data set.

  Args:
    data: options of the data to be evaluated.
    own: options of the data that the model was trained on, if they are known.
    class_names: class names of the model.
    preprocessing: preprocessing of the model's images.
    report: function that takes a sentence about classes that have other names.

  Raises:
    UserError: the data are not there or not as described, or their classes
      are not the model's.
  """
  name, _ = identify(data)
  rules, present, label_sets = [], None, None
  if name == REAL:
    # Here, because importing TFDS takes a second that others need not spend.
    from coatnet_jax.evaluation.real_source import open_real_source

    source = open_real_source(data)
    rules.append(_RULE_REAL)
  else:
    source = create_source(data, 'eval')
  if own and (number := count_trained_on(source, data, own)):
    rules.append(
      f'{number:,} of these {len(source):,} images were trained on: the model'
      ' looks better here than it is'
    )
  if name in CLASSES_THAT_OCCUR:
    present = find_occurring_classes(data, CLASSES_THAT_OCCUR[name])
  if name == CORRUPTED:
    preprocessing = dataclasses.replace(preprocessing, eval_crop_fraction=1.0)
    rules.append(_RULE_CORRUPTED)
  space = match_classes(
    source.class_names, class_names, present=present, report=report
  )
  if name == REAL:

    def label_sets(index: int) -> list[int]:
      return [int(space.positions[i]) for i in source.read_real_labels(index)]

  return EvaluationData(
    source=source,
    data=data,
    space=space,
    preprocessing=preprocessing,
    rules=(*rules, *([space.rule] if space.rule else [])),
    label_sets=label_sets,
  )


def find_occurring_classes(
  data: DataOptions, number: int | None = None
) -> list[int]:
  """Returns the labels that occur in the whole of an evaluation split.

  Images are not decoded, but all records are read.

  Args:
    data: options of the data; of a part of a split, the whole is looked at.
    number: number of classes that are known to occur.

  Raises:
    UserError: there are more or fewer.
  """
  split = re.sub(r'\[[^]]*\]', '', data.eval_split)
  source = create_source(dataclasses.replace(data, eval_split=split), 'eval')
  labels = set()
  for index in range(len(source)):
    with contextlib.suppress(CorruptImageError):
      labels.add(int(source[index]['label']))
  if number is not None and len(labels) != number:
    raise UserError(
      f'{source.description}: images of {len(labels)} classes, not of the'
      f' {number} that it is known to have; prepare it again.'
    )
  return sorted(labels)
