r"""CoAtNet-6 with an S4 of 3,072 channels: the phases of `coatnet_6.py`.

It has the 1.47 billion parameters that the paper reports, where the width that
it prints gives 1.35.

    python main.py --config=configs/coatnet_6_d3072.py:jft3b \
        --config.data.name=NAME --workdir=RUN
    python main.py --config=configs/coatnet_6_d3072.py:jft3b_finetune_512 \
        --config.init_from=RUN --workdir=RUN_512
"""

from configs import recipes
from configs.coatnet_6 import PHASES


def get_config(phase='jft3b'):
  """Returns the config of a phase."""
  return recipes.create_config('coatnet_6_d3072', PHASES, phase)
