"""ImageNet's classes: their order, and words for what a number means.

    list_words('n01440764')  # ('tench', 'Tinca tinca')

ImageNet calls its classes by WordNet's numbers. Weights that are trained on it
have them in one order, that of the numbers.
"""

import functools
import gzip
import importlib.resources

# Number of classes -> what the file calls the set of them: ImageNet-1k; timm's
# part of ImageNet-21k; ImageNet-21k of the autumn of 2011.
_SETS = {1000: '1k', 11821: '12k', 21841: '21k'}


def list_class_names(num_classes: int) -> tuple[str, ...]:
  """Returns what classes are called of which only the number is known.

  >>> list_class_names(1000)[:2], list_class_names(2)
  (('n01440764', 'n01443537'), ('0', '1'))

  Args:
    num_classes: number of classes that the model was trained with.

  Returns:
    WordNet's numbers, in ascending order, for 1,000 (ImageNet-1k), 11,821
    (ImageNet-12k) and 21,841 (ImageNet-21k) classes; else '0', '1' and so on.
  """
  if num_classes not in _SETS:
    return tuple(map(str, range(num_classes)))
  wanted = _SETS[num_classes]
  return tuple(
    name for name, (sets, _) in _read_classes().items() if wanted in sets
  )


def list_words(name: str) -> tuple[str, ...]:
  """Returns the words for a class of ImageNet, the commonest first.

  >>> list_words('n01440764'), list_words('tench')
  (('tench', 'Tinca tinca'), ())

  Args:
    name: name of any class.

  Returns:
    WordNet's words; none for a name that is not one of ImageNet's numbers.
  """
  # Most classes are none of these, and need no file to be read.
  if len(name) != 9 or name[0] != 'n' or not name[1:].isdecimal():
    return ()
  return _read_classes().get(name, ((), ()))[1]


@functools.cache
def _read_classes() -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
  """Returns for each number the sets that it is in, and its words."""
  folder = importlib.resources.files('coatnet_jax') / 'data' / 'embedded'
  data = (folder / 'imagenet_classes' / 'classes.tsv.gz').read_bytes()
  classes = {}
  for line in gzip.decompress(data).decode('utf-8').splitlines():
    name, sets, words = line.split('\t')
    classes[name] = tuple(sets.split()), tuple(words.split(', '))
  return classes
