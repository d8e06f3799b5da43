r"""CoAtNet-6, as printed in the paper: phases of ours, of which it says little.

The paper reports 90.45 % at 512 px after JFT-3B (Table 5) and no settings. The
recipe is CoAtNet-5's; `docs/recipes.md` says where the epochs are from. The
data are Google's own: name yours, prepared as TFDS data sets are.
`configs/coatnet_6_d3072.py` is the model of the size that the paper reports.

    python main.py --config=configs/coatnet_6.py:jft3b \
        --config.data.name=NAME --workdir=RUN
    python main.py --config=configs/coatnet_6.py:jft3b_finetune_512 \
        --config.init_from=RUN --workdir=RUN_512
"""

from configs import recipes
from configs.recipes import drop, finetune

# All ours.
PHASES = {
  'jft3b': recipes.JFT3B | drop(0.0) | {'training.num_epochs': 3.0},
  **finetune('jft3b', recipes.JFT_FINETUNE | drop(0.2), sizes=(512,)),
}


def get_config(phase='jft3b'):
  """Returns the config of a phase."""
  return recipes.create_config('coatnet_6', PHASES, phase)
