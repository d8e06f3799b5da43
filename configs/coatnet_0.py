r"""CoAtNet-0: the phases of the paper's Table 10, and three others.

The paper reports (Table 4, ImageNet-1k) 81.6 % at 224 px and 83.9 % at 384;
this project has not run them. `docs/recipes.md` has all phases,
`configs/recipes.py` their numbers.

    python main.py --config=configs/coatnet_0.py --workdir=RUN
    python main.py --config=configs/coatnet_0.py:imagenet1k_finetune_384 \
        --config.init_from=RUN --workdir=RUN_384
"""

from configs import recipes
from configs.recipes import drop, finetune

PHASES = {
  'imagenet1k': recipes.IMAGENET1K | drop(0.2),
  **finetune('imagenet1k', recipes.IMAGENET1K_FINETUNE | drop(0.2)),
  'imagenet1k_one_gpu': recipes.IMAGENET1K_ONE_GPU | drop(0.2),
  # 82.4 % with timm's weights. Its stochastic depth is ours: the paper's.
  'timm': recipes.TIMM | drop(0.2) | {'model.name': 'coatnet_0_rw_224'},
  'keras_cv': recipes.KERAS_CV | {'model.name': 'coatnet_0_keras_cv'},
}


def get_config(phase='imagenet1k'):
  """Returns the config of a phase."""
  return recipes.create_config('coatnet_0', PHASES, phase)
