r"""CoAtNet-7: phases of ours, of which the paper says little.

The paper reports 90.88 % at 512 px after JFT-3B (Table 5) and no settings. The
recipe is CoAtNet-5's; `docs/recipes.md` says where the epochs are from. The
data are Google's own: name yours, prepared as TFDS data sets are.

    python main.py --config=configs/coatnet_7.py:jft3b \
        --config.data.name=NAME --workdir=RUN
    python main.py --config=configs/coatnet_7.py:jft3b_finetune_512 \
        --config.init_from=RUN --workdir=RUN_512
"""

from configs import recipes
from configs.recipes import drop, finetune

# All ours.
PHASES = {
  'jft3b': recipes.JFT3B | drop(0.0) | {'training.num_epochs': 5.0},
  **finetune('jft3b', recipes.JFT_FINETUNE | drop(0.2), sizes=(512,)),
}


def get_config(phase='jft3b'):
  """Returns the config of a phase."""
  return recipes.create_config('coatnet_7', PHASES, phase)
