"""Eight fake CPU devices, shapes checked, and compilations kept between runs."""

import gc
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
# otherwise. Small programs gain nothing by being cut into 32 parts that are compiled
# beside each other; in one part they take three quarters of the processor's time.
# XLA_FLAGS= (set and empty) compiles as users do. Later versions have the newer way
# alone, and end at a flag they do not know.
QUICK = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
if jax.__version_info__ < (0, 11):
    os.environ.setdefault("XLA_FLAGS", QUICK)

# Tracing makes hundreds of thousands of objects that live: looking through them all at
# Python's own rate is a tenth of a test's time.
gc.set_threshold(50_000, 20, 100)

# Before anything asks for a device: both are fixed once a backend exists.
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)

# Every jaxtyping annotation of the library is checked, at no cost outside the tests.
jaxtyping.install_import_hook("vqdit", "beartype.beartype")


# Files that take longest, the slow tests' first: begun last, one of them alone would
# leave the other workers idle.
LONG = (
    "quantizers/test_contract.py",
    "train/runtime/test_hosts.py",
    "configs/test_published.py",
    "train/runtime/test_checkpoint.py",
    "train/objectives/test_adversarial.py",
    "train/objectives/test_accumulate.py",
    "train/test_own_files.py",
    "train/test_stages.py",
    "train/test_bench.py",
    "train/test_ablate.py",
    "train/test_audio_stage.py",
    "tokenizer/test_contract.py",
    "train/test_compress.py",
    "test_old_files.py",
    "diffusion/test_contract.py",
    "train/objectives/test_joint.py",
    "train/objectives/test_transfer.py",
    "trained/test_generator.py",
    "train/test_classifier.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole files, in the order that workers take them up."""
    place = {f"tests/{name}": i for i, name in enumerate(LONG)}
    of = lambda item: place.get(item.nodeid.split("::")[0], len(LONG))
    items.sort(key=of)  # keeps the order of equals


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
