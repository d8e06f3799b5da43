"""What is known of data sets that a recipe names and a laptop does not have.

Enough to plan a run without its data: how many steps, how large a head. Facts
only; nothing here reads images, and what is read counts for itself.
"""

import dataclasses

from coatnet_jax.errors import UserError, list_choices


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnownDataset:
  """The size of a data set.

  Attributes:
    name: name in `config.data.name`, without a version.
    num_train_examples: number of all images that training may use. What
      preparation holds out for evaluation, where the set has no such split, is
      among them.
    num_eval_examples: number of images of the split that the set has for
      evaluation; 0 where it has none.
    num_classes: number of classes.
    source: publication that says so.
  """

  name: str
  num_train_examples: int
  num_eval_examples: int
  num_classes: int
  source: str


KNOWN_DATASETS: tuple[KnownDataset, ...] = (
  KnownDataset(
    name='imagenet2012',
    num_train_examples=1_281_167,
    num_eval_examples=50_000,
    num_classes=1_000,
    source='TFDS, imagenet2012',
  ),
  # The paper says 12.7 million images (section 4.1), and not which release;
  # others of its authors' house count 12.4 million without duplicates.
  KnownDataset(
    name='imagenet21k_fall11',
    num_train_examples=14_197_122,
    num_eval_examples=0,
    num_classes=21_841,
    source='image-net.org, release of autumn 2011',
  ),
  KnownDataset(
    name='imagenet21k_winter21',
    num_train_examples=13_153_500,
    num_eval_examples=0,
    num_classes=19_167,
    source='image-net.org, release of winter 2021',
  ),
  KnownDataset(
    name='imagenet21k_p',
    num_train_examples=11_060_239,
    num_eval_examples=522_500,
    num_classes=10_450,
    source='ImageNet-21K-P (arXiv 2104.10972) of winter 2021, as timm has it',
  ),
  KnownDataset(
    name='jft300m',
    num_train_examples=300_000_000,
    num_eval_examples=0,
    num_classes=18_291,
    source='arXiv 2106.04803, 4.1: 300M images; arXiv 1707.02968: the classes',
  ),
  KnownDataset(
    name='jft3b',
    num_train_examples=3_000_000_000,
    num_eval_examples=0,
    num_classes=30_000,
    source='arXiv 2106.04560: nearly 3 billion images, around 30,000 classes',
  ),
  KnownDataset(
    name='cifar100',
    num_train_examples=50_000,
    num_eval_examples=10_000,
    num_classes=100,
    source='TFDS, cifar100',
  ),
  KnownDataset(
    name='fashion_mnist',
    num_train_examples=60_000,
    num_eval_examples=10_000,
    num_classes=10,
    source='TFDS, fashion_mnist',
  ),
)


def get_known_dataset(name: str) -> KnownDataset:
  """Returns what is known of a data set.

  >>> get_known_dataset('imagenet2012:5.1.0').num_train_examples
  1281167

  Args:
    name: name in `config.data.name`, with or without a version
      ('imagenet2012:5.1.0').

  Raises:
    UserError: nothing is known; lists the data sets of which something is.
  """
  known = {dataset.name: dataset for dataset in KNOWN_DATASETS}
  base_name = name.split(':')[0]
  if base_name not in known:
    raise UserError(
      f'config.data.name is {name!r}, whose size is not known without its'
      f' files; {list_choices(base_name, known)}'
    )
  return known[base_name]
