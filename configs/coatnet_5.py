r"""CoAtNet-5: the phases of the paper's Table 10, and one of ours.

The paper reports 89.77 % at 512 px after JFT-300M (Table 5); this project has
not run it. The data are Google's own: name yours, prepared as TFDS data sets
are.
`docs/recipes.md` has all phases, `configs/recipes.py` their numbers.

    python main.py --config=configs/coatnet_5.py:jft300m \
        --config.data.name=NAME --workdir=RUN
    python main.py --config=configs/coatnet_5.py:jft300m_finetune_512 \
        --config.init_from=RUN --workdir=RUN_512
"""

from configs import recipes
from configs.recipes import drop, finetune

PHASES = {
  'jft300m': recipes.JFT300M_LARGE | drop(0.0),
  **finetune('jft300m', recipes.JFT_FINETUNE | drop(0.2), sizes=(512,)),
  # Ours: CoAtNet-3's.
  'imagenet1k': recipes.IMAGENET1K | drop(0.7),
}


def get_config(phase='jft300m'):
  """Returns the config of a phase."""
  return recipes.create_config('coatnet_5', PHASES, phase)
