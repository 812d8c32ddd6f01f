"""A pretended device: real numbers on the CPU, and whatever CUDA would refuse is refused.

Refused are tensors of two devices in one operation, a generator of the CPU for random numbers on
the device, and `numpy()` of its tensors. Counted are its operations (kernels) and the transfers
for which the host waits, each by the function of the package that asked for it. It is PyTorch's
backend for private use with an implementation in Python; no compiler and no GPU is needed.

    install()                          # once in a process, before networks are made
    with pretended() as seen: ...      # tensors may now be on "pretend:0"
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

NAME = "pretend"
PACKAGE = f"{os.sep}wdistill{os.sep}"
# Operations that start no kernel.
VIEWS = {
    "view", "_unsafe_view", "expand", "permute", "transpose", "t", "slice", "select", "unsqueeze",
    "squeeze", "detach", "alias", "as_strided", "split", "split_with_sizes", "unbind", "empty",
    "empty_like", "empty_strided", "new_empty", "new_empty_strided", "lift_fresh", "unfold",
    "is_pinned", "_reshape_alias", "diagonal", "chunk", "movedim", "reshape", "flatten", "detach_",
    "set_", "resize_", "lift", "squeeze_", "unsqueeze_", "t_", "transpose_", "is_same_size",
}  # fmt: skip
# Operations whose result the host has to know.
WAITS = {
    "nonzero", "_local_scalar_dense", "equal", "masked_select", "unique", "_unique2", "bincount",
    "unique_consecutive", "unique_dim", "is_nonzero", "item", "repeat_interleave",
}  # fmt: skip
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
JOINING = {"cat", "stack", "_foreach_add", "_foreach_mul"}
# What autocast computes in the lower precision and what in float32: of CUDA's lists in PyTorch's
# autocast_mode.h, what networks and losses use. Others have the type of their inputs.
LOWER = (
    "conv2d", "_convolution", "linear", "addmm", "matmul", "mm", "bmm", "baddbmm",
    "scaled_dot_product_attention",
)  # fmt: skip
FLOAT = (
    "softmax.int", "log_softmax.int", "layer_norm", "group_norm", "cross_entropy_loss",
    "nll_loss", "mse_loss", "kl_div", "sum", "sum.dim_IntList", "exp", "log", "rsqrt",
    "pow.Tensor_Scalar",
)  # fmt: skip
HEAVY = {  # of networks and distances of images: nothing for the host
    "convolution", "addmm", "native_layer_norm", "native_batch_norm", "_cdist_forward",
}  # fmt: skip

LIBRARIES: list[torch.library.Library] = []


@dataclass
class Seen:
    """What happened on the device.

    Attributes:
        kernels: Operations, by name.
        waits: Transfers and readings for which the host waits, by kind and function.
        sent: Transfers for which it does not wait, by function.
        bytes: Read and written by the operations.
        memory: Times that the memory did not suffice, by function.
        host: Heavy operations that were computed on the host instead, by name and function.
    """

    kernels: Counter[str] = field(default_factory=Counter)
    waits: Counter[tuple[str, str]] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    memory: Counter[str] = field(default_factory=Counter)
    host: Counter[tuple[str, str]] = field(default_factory=Counter)

    def waits_in(self, *ignored: str) -> int:
        """All waits but those in functions whose names contain one of ``ignored``."""
        return sum(
            count
            for (_, place), count in self.waits.items()
            if not any(name in place for name in ignored)
        )


class _Module(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]

    def get_rng_state(self, device: object = None) -> torch.Tensor:
        return torch.zeros(16, dtype=torch.uint8)

    def set_rng_state(self, state: object, device: object = None) -> None: ...

    def synchronize(self, device: object = None) -> None: ...

    def set_device(self, device: object) -> None: ...

    def is_bf16_supported(self, *_: object) -> bool:
        return True

    def empty_cache(self) -> None: ...

    free = 2**40

    def mem_get_info(self, device: torch.device | None = None) -> tuple[int, int]:
        if device is not None and device.type != NAME:
            raise ValueError(f"Expected a {NAME} device, but got: {device}")
        return self.free, 2**40


def install() -> None:
    """Register the backend, and let Accelerate and transformers work with it."""
    import transformers

    from wdistill.core import devices

    torch.utils.rename_privateuse1_backend(NAME)
    with contextlib.suppress(RuntimeError):
        _setup_privateuseone_for_python_backend(NAME, _Module())
    _install_autocast()
    torch.__future__.set_swap_module_params_on_conversion(True)
    save = transformers.PreTrainedModel.save_pretrained

    def save_from_the_cpu(self: Any, folder: object, **options: Any) -> None:
        state = {name: value.cpu() for name, value in self.state_dict().items()}
        save(self, folder, state_dict=state, **options)

    transformers.PreTrainedModel.save_pretrained = save_from_the_cpu
    real = devices.Accelerator

    def accelerator(*, cpu: bool, **options: Any) -> Any:
        os.environ["ACCELERATE_TORCH_DEVICE"] = f"{NAME}:0"
        return real(cpu=False, **options)

    devices.Accelerator = accelerator


def _install_autocast() -> None:
    """Autocast for the device, which a backend brings itself. Registered as long as these live."""
    key = "AutocastPrivateUse1"
    others, aten = (
        torch.library.Library("_", "IMPL", key),
        torch.library.Library("aten", "IMPL", key),
    )
    others.fallback(torch.library.fallthrough_kernel)
    for name in LOWER:
        aten.impl(name, _casting(name, lambda: torch.get_autocast_dtype(NAME)))
    for name in FLOAT:
        aten.impl(name, _casting(name, lambda: torch.float32))
    LIBRARIES.extend((others, aten))


def _casting(name: str, dtype: Callable[[], torch.dtype]) -> Callable[..., Any]:
    packet, _, overload = name.partition(".")
    operation = getattr(getattr(torch.ops.aten, packet), overload or "default")
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def computed(*args: Any, **kwargs: Any) -> Any:
        def cast(x: Any) -> Any:
            real = isinstance(x, torch.Tensor) and x.is_floating_point()
            return x.to(dtype()) if real else x

        with torch._C._ExcludeDispatchKeyGuard(keys):
            return operation(*tree_map(cast, args), **tree_map(cast, kwargs))

    return computed


def _place() -> str:
    """The function of the package that is running; of its innermost frame."""
    frame = sys._getframe(2)
    inner = "(elsewhere)"
    while frame is not None:
        name = frame.f_code.co_filename
        if PACKAGE in name and "site-packages" not in name:
            return f"{os.path.basename(name)}:{frame.f_code.co_qualname}:{frame.f_lineno}"
        if inner == "(elsewhere)" and "/torch/optim/" in name:
            inner = f"torch/optim/{os.path.basename(name)}"
        frame = frame.f_back
    return inner


def _runs(module: str) -> bool:
    """Whether a function of that module of the package has not returned yet."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.endswith(PACKAGE + module.replace("/", os.sep)):
            return True
        frame = frame.f_back
    return False


class Pretended(torch.Tensor):
    """A tensor that says it is on the device; ``inner`` holds its numbers."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    device_of_all: Device

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Pretended:
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, layout=inner.layout, device=torch.device(NAME, 0),
            requires_grad=False,
        )  # fmt: skip

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    def __repr__(self) -> str:
        return f"Pretended({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return cls.device_of_all.run(func, args, kwargs or {})

    def __deepcopy__(self, memo: object) -> Pretended:
        return type(self)(self.inner.detach().clone()).requires_grad_(self.requires_grad)


class Tape(Protocol):
    """What records operations in place of doing them."""

    def add(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any: ...


class Device(TorchDispatchMode):
    """limit: bytes of the largest tensor that fits into the memory, 0: all do; within: the module
    of the package that alone has so little, "": all; seen: of another thread's device; tape: where
    there is one, it is given all operations.
    """

    tape: Tape | None = None

    def __init__(self, limit: int = 0, within: str = "", seen: Seen | None = None) -> None:
        super().__init__()
        self.seen, self.limit, self.within = seen or Seen(), limit, within

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return (self.tape.add if self.tape else self.compute)(func, args, kwargs)

    def compute(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        name = func.overloadpacket._qualified_op_name.split("::")[-1]
        flat, spec = tree_flatten((args, kwargs))
        tensors = [x for x in flat if isinstance(x, torch.Tensor)]
        ours = [x for x in tensors if isinstance(x, Pretended)]
        device = kwargs.get("device")
        target = None if device is None else torch.device(device).type
        if not ours and target != NAME:
            if name in HEAVY:
                self.seen.host[name, _place()] += 1
            return func(*args, **kwargs)
        plain = [x.inner if isinstance(x, Pretended) else x for x in flat]
        args, kwargs = tree_unflatten(plain, spec)
        if device is not None:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        kwargs.pop("pin_memory", None)
        if name == "_to_copy":
            return self._copied(func, args, kwargs, bool(ours), target)
        if name == "copy_":
            return self._copied_into(func, args, kwargs, tensors)
        self._check(name, func, kwargs, tensors)
        if name in WAITS or (name == "index" and any(_is_mask(x) for x in tensors[1:])):
            self.seen.waits[name.strip("_"), _place()] += 1
        result = func(*args, **kwargs)
        if name not in VIEWS:
            self._count(name, [x.inner for x in ours], result)
        back = {id(x.inner): x for x in ours}
        return tree_map(lambda x: back[id(x)] if id(x) in back else _wrapped(x), result)

    def _copied(self, func: Any, args: Any, kwargs: Any, ours: bool, target: str | None) -> Any:
        waits = not kwargs.pop("non_blocking", False)
        result = func(*args, **kwargs)
        if ours and target == "cpu":
            self.seen.waits["to the host", _place()] += 1
            return result
        if ours:
            self._count("_to_copy", [args[0]], result)
        elif waits:
            self.seen.waits["to the device", _place()] += 1
        else:
            self.seen.sent[_place()] += 1
        return _wrapped(result)

    def _copied_into(self, func: Any, args: Any, kwargs: Any, tensors: list[torch.Tensor]) -> Any:
        into, source = tensors[:2]
        func(*args, **kwargs)
        if isinstance(into, Pretended) != isinstance(source, Pretended) and source.dim() > 0:
            self.seen.waits["copy_", _place()] += 1
        self._count("copy_", [args[1]], args[0])
        return into

    def _check(self, name: str, func: Any, kwargs: Any, tensors: list[torch.Tensor]) -> None:
        """Raise RuntimeError where CUDA does."""
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type == "cpu":
            raise RuntimeError(f"Expected a '{NAME}' device type for generator but found 'cpu'")
        others = [x for x in tensors if not isinstance(x, Pretended)]
        if not others or len(others) == len(tensors):
            return
        if name in INDEXING and isinstance(tensors[0], Pretended):
            self.seen.waits["index on the host", _place()] += 1
            return
        written = name.endswith("_") and not isinstance(tensors[0], Pretended)
        if name in JOINING or written or any(x.dim() > 0 for x in others):
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{NAME}:0 and cpu! ({func}, at {_place()})"
            )

    def _count(self, name: str, read: list[torch.Tensor], result: Any) -> None:
        written = [x for x in tree_flatten(result)[0] if isinstance(x, torch.Tensor)]
        self.seen.kernels[name] += 1
        self.seen.bytes += sum(x.numel() * x.element_size() for x in (*read, *written))
        large = any(x.numel() * x.element_size() > self.limit for x in written)
        if self.limit and large and (not self.within or _runs(self.within)):
            self.seen.memory[_place()] += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than fits.")


def _wrapped(x: Any) -> Any:
    return Pretended(x) if isinstance(x, torch.Tensor) and not isinstance(x, Pretended) else x


def _is_mask(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.dtype in (torch.bool, torch.uint8)


@contextlib.contextmanager
def pretended(limit: int = 0, within: str = "") -> Iterator[Seen]:
    """Within the context the device is there, for threads that start in it too; its memory holds
    tensors up to ``limit`` bytes, in the module ``within`` or everywhere.
    """
    device = Device(limit, within)
    Pretended.device_of_all = device
    run = threading.Thread.run

    def run_on_device(thread: threading.Thread) -> None:
        with Device(limit, within, device.seen):
            run(thread)

    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) by way of `run`
    threading.Thread.run = run_on_device  # type: ignore[method-assign]
    try:
        with device:
            yield device.seen
    finally:
        threading.Thread.run = run  # type: ignore[method-assign]
        torch._C._set_only_lift_cpu_tensors(False)
