"""What an evaluation of a run's own set changes in the published folder."""

from __future__ import annotations

import logging
from typing import Any

from wdistill.artifact.distilled_set import REPORT_FILE
from wdistill.artifact.layout import one_set, publish_folder
from wdistill.core.files import atomic_write, write_json
from wdistill.evaluation.comparison import Comparison
from wdistill.publishing.card.card import render_card
from wdistill.publishing.card.report import for_publication

logger = logging.getLogger(__name__)


def tell_the_card(comparison: Comparison, report: dict[str, Any]) -> None:
    """What was found of a run's set, with its own data and teacher, is published with it."""
    run, source = comparison.subject.folder, (comparison.subject.manifest or {}).get("source", {})
    own = comparison.config.teacher is None
    own = own and comparison.real.is_of(str(source.get("fingerprint")))
    if run is None or not own:
        return
    write_json(one_set(run) / REPORT_FILE, for_publication(report))
    root = publish_folder(run)
    atomic_write(root / "README.md", render_card(root).encode())
    logger.info(f"card: {root / 'README.md'} now tells this evaluation")
