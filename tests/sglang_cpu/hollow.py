"""Imports SGLang's cache layer and scheduler on a machine with nothing but CPU torch.

All `sglang` modules are the real ones of the unpacked wheel. Third-party packages that they mention
while being imported, and never call in what is tested, are replaced by hollow stand-ins.
"""

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from pydantic_core import core_schema

HOLLOW = frozenset(
    """
    IPython PIL aiohttp compressed_tensors einops fastapi gguf huggingface_hub openai
    partial_json_parser regex safetensors sentencepiece setproctitle starlette torchvision
    transformers triton uvicorn xgrammar yaml
    """.split()
)
"""Packages that have a stand-in, installed or not."""


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


class Hollow:
    """Whatever is done with it gives another one; as a decorator it changes nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *args: Any, **options: Any) -> Any:
        decorates = len(args) == 1 and not options and callable(args[0])
        return args[0] if decorates and not isinstance(args[0], Hollow) else Hollow()

    def __getattr__(self, name: str) -> Any:
        if _is_dunder(name):
            raise AttributeError(name)
        return Hollow()

    def __getitem__(self, _: Any) -> "Hollow":
        return Hollow()

    def __or__(self, _: Any) -> "Hollow":
        return Hollow()

    __ror__ = __or__

    def __setitem__(self, _: Any, __: Any) -> None:
        pass

    def __contains__(self, _: Any) -> bool:
        return False

    def __lt__(self, _: Any) -> bool:
        return False

    __gt__ = __le__ = __ge__ = __lt__

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __bool__(self) -> bool:
        return False

    def __mro_entries__(self, _: tuple[Any, ...]) -> tuple[type, ...]:
        return (HollowClass,)


class _HollowMeta(type):
    """The type of stand-ins for classes, so that isinstance and subclassing work."""

    def __getattr__(cls, name: str) -> Any:
        if _is_dunder(name):
            raise AttributeError(name)
        return Hollow()

    def __getitem__(cls, _: Any) -> Any:
        return cls

    def __iter__(cls) -> Iterator[Any]:
        return iter(())


class HollowClass(metaclass=_HollowMeta):
    """Base of all stand-ins for classes."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __init_subclass__(cls, **_: Any) -> None:
        pass

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: Any) -> Any:
        return core_schema.any_schema()

    def __getattr__(self, name: str) -> Any:
        if _is_dunder(name):
            raise AttributeError(name)
        return Hollow()


class HollowModule(types.ModuleType):
    """A module in which every name exists: capitalised ones are classes."""

    __path__: ClassVar[list[str]] = []
    __version__ = "0"

    def __getattr__(self, name: str) -> Any:
        if _is_dunder(name):
            raise AttributeError(name)
        if name[:1].isupper():
            found: Any = _HollowMeta(name, (HollowClass,), {"__module__": self.__name__})
        else:
            found = Hollow()
        setattr(self, name, found)
        return found


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, packages: frozenset[str]) -> None:
        self.packages = packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] in self.packages:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> HollowModule:
        return HollowModule(spec.name)

    def exec_module(self, module: Any) -> None:
        if module.__name__ == "triton":
            module.cdiv = lambda a, b: -(a // -b)
            module.next_power_of_2 = lambda n: 1 << (n - 1).bit_length() if n > 0 else 1
            # SGLang asks triton.runtime.driver.active for the device; without it, it settles for CPU
            module.runtime = types.SimpleNamespace(driver=types.SimpleNamespace())


def install(source: Path, version: str, packages: frozenset[str] = frozenset()) -> None:
    """Make `sglang` importable from an unpacked wheel, without its top-level `__init__`.

    Args:
        version: what `sglang.__version__` says.
        packages: what this release mentions besides `HOLLOW`.
    """
    sys.meta_path.insert(0, _Finder(HOLLOW | packages))
    sys.path.insert(0, str(source))
    package = types.ModuleType("sglang")
    package.__path__ = [str(source / "sglang")]
    package.__version__ = version  # type: ignore[attr-defined]
    sys.modules["sglang"] = package
