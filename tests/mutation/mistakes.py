"""All mistakes, room by room."""

from tests.mutation import (
  mistakes_augmentation,
  mistakes_benchmarks,
  mistakes_checkpoint,
  mistakes_configs,
  mistakes_data,
  mistakes_distributed,
  mistakes_evaluation,
  mistakes_imports,
  mistakes_layers,
  mistakes_models,
  mistakes_ops,
  mistakes_preparation,
  mistakes_reporting,
  mistakes_tools,
  mistakes_tpu_compiler,
  mistakes_train,
  mistakes_training,
  mistakes_weights,
)
from tests.mutation.mistake import Mistake

MISTAKES: tuple[Mistake, ...] = (
  *mistakes_augmentation.MISTAKES,
  *mistakes_benchmarks.MISTAKES,
  *mistakes_checkpoint.MISTAKES,
  *mistakes_configs.MISTAKES,
  *mistakes_data.MISTAKES,
  *mistakes_distributed.MISTAKES,
  *mistakes_evaluation.MISTAKES,
  *mistakes_imports.MISTAKES,
  *mistakes_layers.MISTAKES,
  *mistakes_models.MISTAKES,
  *mistakes_ops.MISTAKES,
  *mistakes_preparation.MISTAKES,
  *mistakes_reporting.MISTAKES,
  *mistakes_tools.MISTAKES,
  *mistakes_tpu_compiler.MISTAKES,
  *mistakes_train.MISTAKES,
  *mistakes_training.MISTAKES,
  *mistakes_weights.MISTAKES,
)
