"""``python -m wdistill`` and ``accelerate launch -m wdistill``."""

from wdistill.cli import main

main()
