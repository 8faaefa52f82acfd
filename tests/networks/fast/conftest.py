"""The compiled kernels, on in the tests of this folder alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from visus.networks.fast import compiler, why_no_kernels


@pytest.fixture(scope="module")
def compiled_kernels() -> Iterator[None]:
    """Compile and load the kernels for the tests of a module, or skip them with the reason; other modules train without."""
    with pytest.MonkeyPatch.context() as switch:
        switch.delenv("VISUS_KERNELS", raising=False)
        compiler._library.cache_clear()
        if why_not := why_no_kernels():
            pytest.skip(f"no compiled kernels: {why_not}")
        yield
    compiler._library.cache_clear()
