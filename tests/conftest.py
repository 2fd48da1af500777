"""Eight fake CPU devices, shapes checked, and compilations kept between runs."""

import os

import jax
import jaxtyping
import pytest

# XLA's thread pool on a CPU is as large as the machine has cores, or devices if more.
# Collectives that don't depend on each other wait in it, each device in an order of its
# own, until no thread is left for the one they wait for. Read when a backend is made.
os.environ.setdefault("NPROC", "64")

# Most of a test's time is compiling programs that run once. With XLA's older way to
# emit loops that takes half as long; programs compute the same, and may round
# otherwise. XLA_FLAGS= (set and empty) compiles as users do. Later versions have the
# newer way alone, and end at a flag they do not know.
if jax.__version_info__ < (0, 11):
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

# Before anything asks for a device: both are fixed once a backend exists.
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)

# Every jaxtyping annotation of the library is checked, at no cost outside the tests.
jaxtyping.install_import_hook("vqdit", "beartype.beartype")


def pytest_configure(config: pytest.Config) -> None:
    """Most of a test's time is compiling, so programs are kept in pytest's cache."""
    if hasattr(config, "cache"):  # absent under -p no:cacheprovider
        folder = config.cache.mkdir("jax_programs")
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(autouse=True, scope="module")
def costs(request: pytest.FixtureRequest):
    """What a file's programs need of XLA, and its calls of a check of shapes.

    Nearly every program of a test runs once: passes cost more than they save. A file
    whose programs run long says so: pytestmark = pytest.mark.optimized. Shapes are
    checked where the library is tested, not once more below every program of train/.
    """
    long = request.node.get_closest_marker("optimized") is not None
    programs = request.node.nodeid.startswith(("tests/train/", "tests/configs/"))
    jax.config.update("jax_disable_most_optimizations", not long)
    jaxtyping.config.update("jaxtyping_disable", programs)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jaxtyping.config.update("jaxtyping_disable", False)
