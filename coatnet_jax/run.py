"""What a config resolves to: every choice made and checked, nothing written.

Each sub-tree of the config is splatted into one dataclass or function, so that
an unknown or a missing key is an error in the first second.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict, FrozenConfigDict

from coatnet_jax import config_checks, memory, paths, values
from coatnet_jax.checkpoints import saving
from coatnet_jax.checkpoints.metadata import Metadata, find_model_arguments
from coatnet_jax.data import damage, inspection
from coatnet_jax.data.augmentation import (
  AugmentationOptions,
  PreprocessingOptions,
)
from coatnet_jax.data.identity import compute_fingerprint
from coatnet_jax.data.image_source import ImageSource
from coatnet_jax.data.sampling import find_class_counts
from coatnet_jax.data.sources import DataOptions, check_place, create_source
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.distributed.first_process import ask_first_process
from coatnet_jax.errors import UserError
from coatnet_jax.init_from import follow_init_from
from coatnet_jax.models.factory import create_model
from coatnet_jax.training import schedules, training_log
from coatnet_jax.training.losses import LossOptions, compute_class_weights
from coatnet_jax.training.mixup import MixupOptions
from coatnet_jax.training.optimizers import create_optimizer
from coatnet_jax.values import Options, Range

_BatchSize = Annotated[int, Range(at_least=1, at_most=2**24)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions(Options, section='config.training'):
  """How long and in what batches is trained; see configs/base.py."""

  num_epochs: Annotated[float, Range(at_least=0, at_most=1e6)]
  num_steps: Annotated[int, Range(at_least=0, at_most=schedules.MAX_STEPS)]
  global_batch_size: _BatchSize
  gradient_accumulation_steps: Annotated[int, Range(at_least=1, at_most=2**16)]
  ema_decay: Annotated[float, Range(at_least=0, below=1)]
  ema_warmup: bool
  early_stopping_evaluations: Annotated[int, Range(at_least=0, at_most=10**6)]
  skip_nonfinite_steps: Annotated[
    int, Range(at_least=0, at_most=schedules.MAX_STEPS)
  ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationOptions(Options, section='config.evaluation'):
  """When and in what batches is evaluated; see configs/base.py."""

  every_epochs: Annotated[float, Range(at_least=0, at_most=1e6)]
  every_steps: Annotated[int, Range(at_least=0, at_most=schedules.MAX_STEPS)]
  global_batch_size: _BatchSize


@dataclasses.dataclass(frozen=True, kw_only=True)
class RootOptions(Options, section='config'):
  """What stands in no section of a config; see configs/base.py."""

  # What seeds a key of JAX without being cut off.
  seed: Annotated[int, Range(at_least=0, below=2**32)]
  init_from: str
  follow_init_from: tuple[tuple[str, Any], ...]
  compiled_train_step: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """What a config resolves to: checked, with nothing written yet.

  Each section of the config is an attribute with the keys as attributes, or has
  become what it configures. How long and how often, which a config says in
  steps or in epochs, is in steps here: `training.num_steps` and
  `evaluation.every_steps`.

  Attributes:
    config: whole config, resolved, to be written down with the results.
    taken_over: what of the config `init_from` decided, a line each.
    class_weights: weight of each class in the loss, [K]; none for 1.
    notes: what was changed of what the config says, a line each.
  """

  config: FrozenConfigDict
  taken_over: tuple[str, ...]
  seed: int
  init_from: str
  compiled_train_step: str
  data: DataOptions
  preprocessing: PreprocessingOptions
  augmentation: AugmentationOptions
  mixup: MixupOptions
  loss: LossOptions
  training: TrainingOptions
  checkpoint: saving.CheckpointOptions
  logging: training_log.LoggingOptions
  evaluation: EvaluationOptions
  train_source: ImageSource
  eval_source: ImageSource
  schedule: optax.Schedule
  tx: optax.GradientTransformation
  frozen: tuple[str, ...]
  model: nn.Module
  mesh: Mesh
  class_weights: tuple[float, ...] = ()
  notes: tuple[str, ...] = ()

  @property
  def model_name(self) -> str:
    """Returns the name of the model's variant."""
    return self.config.model.name

  @property
  def abstract_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of a training batch, with their sharding."""
    batch_size = self.training.global_batch_size
    sharding = mesh_lib.create_batch_sharding(self.mesh)
    several = self.train_source.has_several_labels
    return {
      'image': jax.ShapeDtypeStruct(
        (batch_size, *self.preprocessing.image_size, 3),
        jnp.uint8,
        sharding=sharding,
      ),
      'label': jax.ShapeDtypeStruct(
        (batch_size, self.model.num_classes) if several else (batch_size,),
        jnp.float32 if several else jnp.int32,
        sharding=sharding,
      ),
    }

  @functools.cached_property
  def data_identity(self) -> dict[str, dict[str, Any]]:
    """What says another time whether the data are the same: `Metadata.data`.

    To be read by all processes.
    """
    sources = {'train': self.train_source, 'eval': self.eval_source}
    fingerprints = ask_first_process(
      lambda: ' '.join(map(compute_fingerprint, sources.values()))
    )
    return {
      split: {'examples': len(source), 'fingerprint': fingerprint}
      for (split, source), fingerprint in zip(
        sources.items(), fingerprints.split()
      )
    }

  @property
  def metadata(self) -> Metadata:
    """Returns what every checkpoint of the run says of itself."""
    return Metadata(
      model=find_model_arguments(self.config.model, self.model.num_classes),
      preprocessing=dataclasses.asdict(self.preprocessing),
      class_names=self.train_source.class_names,
      config=self.config.to_dict(),
      data=self.data_identity,
    )

  def look_for_damage(self) -> str:
    """Returns a line about images of a folder that cannot be decoded, or ''.

    Raises:
      UserError: there are too many of them: `damage.look_for_damage`.
    """
    if self.data.source != 'folder':
      return ''
    return damage.look_for_damage(
      (self.train_source, self.eval_source),
      self.data.max_damaged_fraction,
      self.data.num_threads,
    )

  def inspect_data(self) -> str:
    """Returns lines about the images of a folder or a list, or ''.

    Raises:
      UserError: there is nothing to be learnt from them: `inspection.inspect`.
    """
    if self.data.source != 'folder':
      return ''
    is_weighted = (
      self.data.sampling != 'natural' or self.loss.class_weights != 'none'
    )
    return '\n'.join(
      inspection.inspect(
        self.train_source,
        self.eval_source,
        batch_size=self.training.global_batch_size,
        is_weighted=is_weighted,
        num_threads=self.data.num_threads,
      )
    )

  def describe(self) -> str:
    """Returns what is trained on what, and how long, in lines for people."""
    size = 'x'.join(str(n) for n in self.preprocessing.image_size)
    batch_size = self.training.global_batch_size
    num_steps = self.training.num_steps
    epochs = num_steps * batch_size / len(self.train_source)
    devices = self.mesh.devices.flat
    kind = f'{len(devices)} {devices[0].device_kind} device'
    return (
      f'data        {self.train_source.description}\n'
      f'            {self.eval_source.description}\n'
      f'training    {num_steps:,} steps of {batch_size:,} images of'
      f' {size} px, {epochs:,.1f} epochs, on {kind}'
      + 's' * (len(devices) > 1)
      + ''.join(f'\n            {note}' for note in self.notes)
    )


# section -> what its keys are arguments of, and that one's other arguments.
SECTIONS = {
  'model': (create_model, ('num_classes', 'feature_maps')),
  'data': (DataOptions, ()),
  'preprocessing': (PreprocessingOptions, ()),
  'augmentation': (AugmentationOptions, ()),
  'mixup': (MixupOptions, ()),
  'loss': (LossOptions, ()),
  'schedule': (
    schedules.create_learning_rate_schedule,
    ('steps_per_epoch', 'num_steps'),
  ),
  'optimizer': (create_optimizer, ('learning_rate',)),
  'training': (TrainingOptions, ()),
  'evaluation': (EvaluationOptions, ()),
  'checkpoint': (saving.CheckpointOptions, ()),
  'logging': (training_log.LoggingOptions, ()),
  'sharding': (mesh_lib.create_mesh, ('devices',)),
}


def resolve_values(config: Mapping[str, Any]) -> dict[str, Any]:
  """Checks each key's type and range by itself; reads and makes nothing.

  Args:
    config: config with the keys of `configs/base.py`.

  Returns:
    The same, each value of its key's own type.

  Raises:
    UserError: a value of another type or out of its range, a key too many or
      too few.
  """
  resolved = {}
  for section, (target, others) in SECTIONS.items():
    name = f'config.{section}'
    if not isinstance(config.get(section), Mapping):
      raise UserError(f'There is no section {name}; configs/base.py has it.')
    resolved[section] = values.convert_arguments(
      target, config[section], name, others
    )
  root = {name: value for name, value in config.items() if name not in resolved}
  return resolved | values.convert_arguments(RootOptions, root, 'config')


def create_run(
  config: ConfigDict,
  *,
  workdir: str | None = None,
  devices: Sequence[jax.Device] | None = None,
  sources: tuple[ImageSource, ImageSource] | None = None,
) -> Run:
  """Resolves a config; every sub-tree goes whole into what it configures.

  What can be told without the data is checked before they are looked at.

  Args:
    config: config with the keys of `configs/base.py`.
    workdir: directory of the run, for `follow_init_from`; nothing is followed
      if None.
    devices: devices to run on, perhaps abstract ones; all there are if None.
    sources: images of training and evaluation; those of `config.data` if None.

  Raises:
    UserError: a value out of its range, data that are not there, or a key too
      many or too few.
  """
  resolved = resolve_values(paths.resolve_config(config).to_dict())
  taken_over = ()
  if workdir is not None:
    if sources is None:  # Before weights are fetched, which may take minutes.
      check_place(DataOptions(**resolved['data']))
    resolved, taken_over = follow_init_from(resolved, workdir)
  training = TrainingOptions(**resolved['training'])
  evaluation = EvaluationOptions(**resolved['evaluation'])
  options = {
    'data': DataOptions(**resolved['data']),
    'augmentation': AugmentationOptions(**resolved['augmentation']),
    'preprocessing': PreprocessingOptions(**resolved['preprocessing']),
    'mixup': MixupOptions(**resolved['mixup']),
    'loss': LossOptions(**resolved['loss']),
    'checkpoint': saving.CheckpointOptions(**resolved['checkpoint']),
    'logging': training_log.LoggingOptions(**resolved['logging']),
  }
  mesh = mesh_lib.create_mesh(**resolved['sharding'], devices=devices)
  model = create_model(**resolved['model'])
  config_checks.check_image_size(model, options['preprocessing'])
  config_checks.check_attention(resolved['model']['attention'], mesh)
  config_checks.check_durations(resolved)
  config_checks.check_batches(resolved, mesh)
  if devices is None:  # Else others than this machine's are meant.
    memory.check_host(memory.estimate_host_bytes(resolved, model))
  options['augmentation'].check_batch_size(training.global_batch_size)
  options['data'].check_division()
  train_source, eval_source = sources or (
    create_source(options['data'], 'train'),
    create_source(options['data'], 'eval'),
  )
  config_checks.check_labels(train_source, resolved)
  class_weights = ()
  if options['loss'].class_weights != 'none':
    class_weights = compute_class_weights(find_class_counts(train_source))
  steps_per_epoch = len(train_source) / training.global_batch_size
  training, evaluation = _resolve_durations(
    training, evaluation, steps_per_epoch
  )
  num_steps = training.num_steps
  options['logging'].check_steps(num_steps)
  schedule = schedules.create_learning_rate_schedule(
    **resolved['schedule'], steps_per_epoch=steps_per_epoch, num_steps=num_steps
  )
  return Run(
    config=FrozenConfigDict(resolved),
    taken_over=taken_over,
    seed=resolved['seed'],
    init_from=resolved['init_from'],
    compiled_train_step=resolved['compiled_train_step'],
    training=training,
    evaluation=evaluation,
    **options,
    train_source=train_source,
    eval_source=eval_source,
    schedule=schedule,
    tx=create_optimizer(schedule, **resolved['optimizer']),
    frozen=resolved['optimizer']['frozen'],
    model=model.clone(num_classes=train_source.num_classes),
    mesh=mesh,
    class_weights=class_weights,
    notes=schedules.describe_warmup(
      resolved['schedule'], steps_per_epoch, num_steps
    ),
  )


def _resolve_durations(
  training: TrainingOptions,
  evaluation: EvaluationOptions,
  steps_per_epoch: float,
) -> tuple[TrainingOptions, EvaluationOptions]:
  """Returns the same with what they say in steps or in epochs in steps."""
  num_steps = schedules.resolve_steps(
    name='training.num',
    steps=training.num_steps,
    epochs=training.num_epochs,
    steps_per_epoch=steps_per_epoch,
  )
  every_steps = schedules.resolve_steps(
    name='evaluation.every',
    steps=evaluation.every_steps,
    epochs=evaluation.every_epochs,
    steps_per_epoch=steps_per_epoch,
  )
  return (
    dataclasses.replace(training, num_steps=num_steps, num_epochs=0.0),
    dataclasses.replace(
      evaluation, every_steps=every_steps or num_steps, every_epochs=0.0
    ),
  )
