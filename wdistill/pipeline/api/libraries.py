"""Other libraries' logs, bars and global state during a call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import datasets
import transformers
from accelerate.state import AcceleratorState, GradientState, PartialState, is_initialized
from huggingface_hub import utils as hub_utils

from wdistill.core.log import bars_shown


@contextmanager
def restore_libraries(quiet: bool) -> Iterator[None]:
    """Silence libraries within the context, and restore their state afterwards.

    Accelerate's state is global, and a later call may need another one, such as another precision.
    """
    logs, state_exists = transformers.logging, is_initialized()
    verbosity, bars = logs.get_verbosity(), logs.is_progress_bar_enabled()
    of_datasets = datasets.logging.get_verbosity()
    bars_enabled = (
        not datasets.are_progress_bars_disabled(),
        not hub_utils.are_progress_bars_disabled(),
    )
    logs.set_verbosity_error()
    datasets.logging.set_verbosity_error()
    logs.disable_progress_bar()
    hide_bars = quiet or not bars_shown()
    if hide_bars:
        datasets.disable_progress_bars()
        hub_utils.disable_progress_bars()
    try:
        yield
    finally:
        logs.set_verbosity(verbosity)
        datasets.logging.set_verbosity(of_datasets)
        if bars:
            logs.enable_progress_bar()
        if hide_bars and bars_enabled[0]:
            datasets.enable_progress_bars()
        if hide_bars and bars_enabled[1]:
            hub_utils.enable_progress_bars()
        if not state_exists and is_initialized():
            for state in (AcceleratorState(), PartialState(), GradientState()):
                vars(state).clear()  # the state is shared by all instances of a class
