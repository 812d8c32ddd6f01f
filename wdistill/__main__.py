"""``python -m wdistill`` and ``accelerate launch -m wdistill``."""

from wdistill.cli.main import main

main()
