"""What a config resolves to: every choice made and checked, nothing written.

Each sub-tree of the config is splatted into one dataclass or function, so that
an unknown or a missing key is an error in the first second.
"""

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from coatnet_jax import checkpoint, paths
from coatnet_jax.data.augmentation import (
  AugmentationOptions,
  PreprocessingOptions,
)
from coatnet_jax.data.image_source import ImageSource
from coatnet_jax.data.sources import DataOptions, create_source
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.errors import UserError
from coatnet_jax.models.factory import create_model
from coatnet_jax.training import reporting, schedules
from coatnet_jax.training.losses import LossOptions
from coatnet_jax.training.mixup import MixupOptions
from coatnet_jax.training.optimizers import create_optimizer

# What computes attention on one platform only.
_ATTENTION_PLATFORMS = {'pallas': 'tpu', 'cudnn': 'gpu'}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions:
  """How long and in what batches is trained; see configs/base.py."""

  num_epochs: float
  num_steps: int
  global_batch_size: int
  gradient_accumulation_steps: int
  ema_decay: float
  ema_warmup: bool

  def __post_init__(self):
    """Raises UserError for values out of their range."""
    if not 0 <= self.ema_decay < 1:
      raise UserError(
        f'training.ema_decay must be at least 0 and below 1, not'
        f' {self.ema_decay}.'
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
  """When and in what batches is evaluated; see configs/base.py."""

  every_epochs: float
  every_steps: int
  global_batch_size: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """What a config resolves to: checked, with nothing written yet."""

  seed: int
  init_from: str
  data: DataOptions
  preprocessing: PreprocessingOptions
  augmentation: AugmentationOptions
  mixup: MixupOptions
  loss: LossOptions
  training: TrainingOptions
  checkpoint: checkpoint.CheckpointOptions
  logging: reporting.LoggingOptions
  evaluation: EvaluationOptions
  train_source: ImageSource
  eval_source: ImageSource
  num_steps: int
  evaluate_every_steps: int
  schedule: optax.Schedule
  tx: optax.GradientTransformation
  frozen: tuple[str, ...]
  model: nn.Module
  mesh: Mesh

  @property
  def abstract_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of a training batch, with their sharding."""
    batch_size = self.training.global_batch_size
    sharding = mesh_lib.batch_sharding(self.mesh)
    return {
      'image': jax.ShapeDtypeStruct(
        (batch_size, *self.preprocessing.image_size, 3),
        jnp.uint8,
        sharding=sharding,
      ),
      'label': jax.ShapeDtypeStruct(
        (batch_size,), jnp.int32, sharding=sharding
      ),
    }

  def create_metadata(self, config: ConfigDict) -> checkpoint.Metadata:
    """Returns what every checkpoint of the run says of itself."""
    return checkpoint.Metadata(
      model=checkpoint.model_arguments(config.model, self.model.num_classes),
      preprocessing=dataclasses.asdict(self.preprocessing),
      class_names=self.train_source.class_names,
      config=config.to_dict(),
    )

  def describe(self) -> str:
    """Returns what is trained on what, and how long, in lines for people."""
    size = 'x'.join(str(n) for n in self.preprocessing.image_size)
    batch_size = self.training.global_batch_size
    epochs = self.num_steps * batch_size / len(self.train_source)
    devices = self.mesh.devices.flat
    kind = f'{len(devices)} {devices[0].device_kind} device'
    return (
      f'data        {self.train_source.description}\n'
      f'            {self.eval_source.description}\n'
      f'training    {self.num_steps:,} steps of {batch_size:,} images of'
      f' {size} px, {epochs:,.1f} epochs, on {kind}' + 's' * (len(devices) > 1)
    )


def create_run(
  config: ConfigDict,
  *,
  devices: Sequence[jax.Device] | None = None,
  sources: tuple[ImageSource, ImageSource] | None = None,
) -> Run:
  """Resolves a config; every sub-tree goes whole into what it configures.

  Args:
    config: as `configs/base.py`.
    devices: to run on, perhaps abstract ones; all there are if None.
    sources: of training and evaluation; those of `config.data` if None.

  Raises:
    UserError: a value out of its range, or data that are not there.
    TypeError: a key too many or too few.
  """
  config = paths.resolve_config(config)
  mesh = mesh_lib.create_mesh(**config.sharding, devices=devices)
  data = DataOptions(**config.data)
  training = TrainingOptions(**config.training)
  evaluation = EvaluationOptions(**config.evaluation)
  mesh_lib.check_batch_size(
    'training.global_batch_size',
    training.global_batch_size,
    mesh,
    training.gradient_accumulation_steps,
  )
  augmentation = AugmentationOptions(**config.augmentation)
  augmentation.check_batch_size(training.global_batch_size)
  mesh_lib.check_batch_size(
    'evaluation.global_batch_size', evaluation.global_batch_size, mesh
  )
  train_source, eval_source = sources or (
    create_source(data, 'train'),
    create_source(data, 'eval'),
  )
  model = create_model(
    num_classes=train_source.num_classes, **config.model.to_dict()
  )
  check_attention(config.model.attention, mesh)
  part_size = training.global_batch_size // training.gradient_accumulation_steps
  group_size = config.model.batch_norm_group_size
  if group_size and part_size % group_size:
    raise UserError(
      f'model.batch_norm_group_size is {group_size}, which does not divide the'
      f' {part_size} images that are computed at a time.'
    )
  steps_per_epoch = len(train_source) / training.global_batch_size
  num_steps = schedules.resolve_steps(
    name='training.num',
    steps=training.num_steps,
    epochs=training.num_epochs,
    steps_per_epoch=steps_per_epoch,
  )
  schedule = schedules.create_learning_rate_schedule(
    **config.schedule, steps_per_epoch=steps_per_epoch, num_steps=num_steps
  )
  return Run(
    seed=config.seed,
    init_from=config.init_from,
    data=data,
    preprocessing=PreprocessingOptions(**config.preprocessing),
    augmentation=augmentation,
    mixup=MixupOptions(**config.mixup),
    loss=LossOptions(**config.loss),
    training=training,
    checkpoint=checkpoint.CheckpointOptions(**config.checkpoint),
    logging=reporting.LoggingOptions(**config.logging),
    evaluation=evaluation,
    train_source=train_source,
    eval_source=eval_source,
    num_steps=num_steps,
    evaluate_every_steps=schedules.resolve_steps(
      name='evaluation.every',
      steps=evaluation.every_steps,
      epochs=evaluation.every_epochs,
      steps_per_epoch=steps_per_epoch,
    )
    or num_steps,
    schedule=schedule,
    tx=create_optimizer(schedule, **config.optimizer),
    frozen=config.optimizer.frozen,
    model=model,
    mesh=mesh,
  )


def check_attention(attention: str, mesh: Mesh) -> None:
  """Checks that a mesh's devices can compute attention as they are to.

  Args:
    attention: `config.model.attention`.
    mesh: the devices.

  Raises:
    UserError: it is for another platform.
  """
  platform = mesh.devices.flat[0].platform
  wanted = _ATTENTION_PLATFORMS.get(attention, platform)
  if platform != wanted:
    raise UserError(
      f'model.attention is {attention!r}, which is for {wanted.upper()}s, and'
      f" this machine has {platform.upper()}s; 'auto' is for any machine."
    )
