"""A model card: what is known of a model and its run, and nothing else.

Markdown, with the front matter that the Hugging Face Hub reads. Texts from data
are escaped for it.
"""

import importlib.metadata
import re
import types
from collections.abc import Mapping
from typing import Any

import jax
import jinja2

from coatnet_jax.checkpoints import quality
from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.paths import find_hub_name
from coatnet_jax.publishing.scrubbing import scrub_config
from coatnet_jax.texts import printable
from coatnet_jax.weights import timm, timm_config

# So many classes are listed by name.
MAX_LISTED = 100
# Name in `config.data.name` -> name of the same data on the hub.
_DATASETS: Mapping[str, str] = types.MappingProxyType(
  {
    'imagenet2012': 'ILSVRC/imagenet-1k',
    'cifar10': 'uoft-cs/cifar10',
    'cifar100': 'uoft-cs/cifar100',
    'fashion_mnist': 'zalando-datasets/fashion_mnist',
    'mnist': 'ylecun/mnist',
  }
)
# Measure -> (the hub's kind of it, words).
_MEASURES: Mapping[str, tuple[str, str]] = types.MappingProxyType(
  {
    'top1': ('accuracy', 'top-1 accuracy'),
    'top5': ('top_5_accuracy', 'top-5 accuracy'),
    'mean_class_accuracy': (
      'balanced_accuracy',
      'mean of the accuracies of the classes',
    ),
    'mean_average_precision': (
      'mean_average_precision',
      'mean average precision',
    ),
  }
)
# Sections of a config that a card shows.
_SECTIONS = ('optimizer', 'schedule', 'training', 'augmentation', 'mixup')
_PACKAGES = ('jax', 'flax', 'huggingface_hub')
# What Markdown or HTML could take for more than a character.
_SPECIAL = re.compile(r'([!-&(-+:-@\[-`{-~./])')


def create_card(
  trained: TrainedModel, hub: Any, *, repository: str, licence: str | None
) -> str:
  """Returns the card of a trained model.

  Args:
    trained: trained model, from `load_trained_model`.
    hub: module huggingface_hub.
    repository: name on the hub, 'OWNER/NAME'.
    licence: the hub's word for the licence, 'apache-2.0'; None leaves it out.
  """
  name = trained.config.model.name
  is_in_timm = not timm.explain_difference(name, trained.model.variant)
  metrics = quality.read_metrics(trained.path)
  data = hub.ModelCardData(
    license=licence,
    library_name='timm' if is_in_timm else 'coatnet_jax',
    tags=['image-classification', 'coatnet', 'coatnet_jax', 'jax'],
    pipeline_tag='image-classification',
    datasets=_find_dataset(trained),
    base_model=_find_base_model(trained),
    metrics=[_MEASURES[key][0] for key in _MEASURES if key in metrics] or None,
    model_name=repository.partition('/')[2],
    eval_results=_list_results(trained, metrics, hub) or None,
  )
  preprocessing = trained.preprocessing
  body = _create_environment().get_template('model_card.md.j2')
  return f'---\n{data.to_yaml()}\n---\n\n' + body.render(
    repository=repository,
    title=repository.partition('/')[2],
    name=name,
    step=trained.step,
    num_classes=len(trained.class_names),
    class_names=trained.class_names[:MAX_LISTED],
    num_more=max(0, len(trained.class_names) - MAX_LISTED),
    height=preprocessing.image_size[0],
    width=preprocessing.image_size[1],
    is_in_timm=is_in_timm,
    is_sigmoid=trained.loss.kind == 'sigmoid',
    base_model=_find_base_model(trained),
    dataset=_name_dataset(trained),
    measures=[
      (words, f'{metrics[key]:.4f}')
      for key, (_, words) in _MEASURES.items()
      if key in metrics
    ],
    count=int(metrics.get('count', 0)),
    loss=metrics.get('loss'),
    facts=_list_facts(trained),
    transform=timm_config.write_transform_call(vars(preprocessing)),
    config=_list_settings(trained),
    versions=[(p, importlib.metadata.version(p)) for p in _PACKAGES],
  )


def escape_markdown(text: object) -> str:
  r"""Returns a text as Markdown that shows it and does nothing else.

  >>> print(escape_markdown('<b>|x_y'))
  \<b\>\|x\_y

  Args:
    text: text of one line.
  """
  shown = printable(str(text)).replace('\n', ' ').replace('\r', ' ')
  return _SPECIAL.sub(r'\\\1', shown)


def _create_environment() -> jinja2.Environment:
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('coatnet_jax.publishing', '.'),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
  )
  environment.filters['markdown'] = escape_markdown
  return environment


def _name_dataset(trained: TrainedModel) -> str:
  """Returns the name of the data; '' where they have none but a path."""
  data = trained.config.data
  if not trained.step or data.source != 'tfds' or '/' in data.name:
    return ''
  return data.name


def _find_dataset(trained: TrainedModel) -> str | None:
  return _DATASETS.get(_name_dataset(trained).partition(':')[0])


def _find_base_model(trained: TrainedModel) -> str | None:
  """Returns the name on the hub of the weights that the run started from."""
  name = find_hub_name(trained.config.init_from)
  return name.partition('@')[0] if name else None


def _list_results(
  trained: TrainedModel, metrics: Mapping[str, float], hub: Any
) -> list[Any]:
  """Returns the measures as the hub's model index has them."""
  data = trained.config.data
  dataset = _name_dataset(trained) or (
    'imagefolder' if data.source == 'folder' else data.source
  )
  return [
    hub.EvalResult(
      task_type='image-classification',
      dataset_type=_find_dataset(trained) or dataset,
      dataset_name=dataset,
      dataset_split=data.eval_split or None,
      metric_type=kind,
      metric_name=words,
      metric_value=round(metrics[key], 6),
    )
    for key, (kind, words) in _MEASURES.items()
    if key in metrics
  ]


def _list_facts(trained: TrainedModel) -> list[tuple[str, str]]:
  """Returns the rows of the table of what is known."""
  preprocessing, metadata = trained.preprocessing, trained.config
  parameters = sum(x.size for x in jax.tree.leaves(trained.variables['params']))
  facts = [
    ('architecture', metadata.model.name),
    ('parameters', f'{parameters:,}'),
    ('image size', ' x '.join(map(str, preprocessing.image_size)) + ' pixels'),
    ('classes', f'{len(trained.class_names):,}'),
  ]
  if trained.step:
    facts.append(('steps of training', f'{trained.step:,}'))
    facts.append(
      ('images per step', f'{metadata.training.global_batch_size:,}')
    )
    if metadata.training.ema_decay:
      decay = f'{metadata.training.ema_decay:g}'
      facts.append(('weights', f'averages over the run, decay {decay}'))
  return facts


def _list_settings(trained: TrainedModel) -> list[tuple[str, str]]:
  """Returns the run's settings by section, without paths."""
  if not trained.step:
    return []
  config = scrub_config(trained.config.to_dict())
  return [
    (f'{section}.{key}', repr(value))
    for section in (
      'optimizer',
      'schedule',
      'training',
      'augmentation',
      'mixup',
    )
    for key, value in sorted(config.get(section, {}).items())
  ]
