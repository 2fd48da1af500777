"""Who imports whom, read from the source."""

import ast
import builtins
import collections
import dis
import importlib
import pathlib

import pytest

import train
import vqdit

ROOT = pathlib.Path(vqdit.__file__).parent.parent
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(
        ".__init__"
    ): path
    for room in ("vqdit", "train", "configs")
    for path in sorted((ROOT / room).rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}

# Floor by floor, what a room may import of ours beside its own: only what is below it.
# Rooms of one floor do not import each other.
LIBRARY = (
    ("shapes", "platform"),
    ("values", "fields", "sealed", "sums", "split"),
    ("signal",),
    ("quantizers", "nn"),
    ("tokenizer", "losses", "features", "diffusion", "metrics"),
    ("dit",),
    ("trained",),
)
BESIDE = ("errors", "progress")  # what every room may use
PROGRAMS = tuple(
    path.stem
    for path in sorted((ROOT / "train").glob("*.py"))
    if path.stem not in BESIDE
)
TRAIN = (
    ("progress",),
    ("errors",),
    ("modalities",),
    ("sources",),
    ("pipeline",),
    ("config",),
    ("runtime",),
    ("objectives", "report"),
    ("evaluation",),
    ("codec",),
    PROGRAMS,
)
# Programs that run others, whole.
TOURS = {name: {"stage_one", "stage_two"} for name in ("ablate", "demo", "evolve")}
# So within a room that holds rooms, beside its files. REST are those that are not
# named, which may import each other.
REST = "the rest"
WITHIN = {
    "vqdit.quantizers": (("quantized",), ("codebook",), (REST,)),
    "vqdit.diffusion": ((REST,), ("objectives",)),
    "train.modalities": (
        ("draws", "record", "settings", "files"),
        ("transforms",),
        (REST,),
    ),
    "train.sources": ((REST,), ("generated",), ("open",)),
    "train.config": (("options",), (REST,)),
    "train.objectives": ((REST,), ("costs",)),
    "train.runtime": (
        ("hosts", "step"),
        ("sharding",),
        ("checkpoint",),
        (REST,),
    ),
    "train.evaluation": (
        (REST,),
        ("reconstruction", "crossings"),
        ("scores",),
        ("training",),
    ),
}
OUTSIDE = {"jax", "flax", "jaxtyping", "numpy", "safetensors", "scipy", "tokenizers"}
STANDARD = {
    "collections",
    "contextlib",
    "dataclasses",
    "difflib",
    "enum",
    "functools",
    "glob",
    "hashlib",
    "importlib",
    "itertools",
    "json",
    "math",
    "numbers",
    "operator",
    "os",
    "pathlib",
    "re",
    "shutil",
    "sys",
    "time",
    "types",
    "typing",
    "uuid",
    "zlib",
}


def imports(name):
    """Every module that a file imports, anywhere in it, by its full dotted name."""
    found = set()
    package = FILES[name].name == "__init__.py"
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                parts = name.split(".")
                parts = parts[: len(parts) - node.level + package]
                origin = ".".join([*parts, origin]).strip(".")
            found |= {f"{origin}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func).split(".")[-1]
            first = node.args[0]
            if called in ("import_module", "__import__") and isinstance(
                first, ast.Constant
            ):
                found.add(first.value)
    return found


def roots(name):
    return {found.partition(".")[0] for found in imports(name)}


def names(room):
    return [name for name in FILES if name == room or name.startswith(room + ".")]


def test_the_walk_sees_the_files():
    known = {"vqdit", "vqdit.dit", "train.runtime.loop", "train.modalities.image"}
    assert known <= set(FILES)
    assert "vqdit.nn.block.Block" in imports("vqdit.dit")
    assert {"jax", "vqdit.diffusion"} <= imports("vqdit.trained.generator")
    assert any(
        "orbax" in found for found in imports("train.runtime.checkpoint.checkpoints")
    )


@pytest.mark.parametrize("name", FILES)
def test_configs_import_train_imports_the_library(name):
    room = name.partition(".")[0]
    lower = {"configs": {"train", "vqdit"}, "train": {"vqdit"}, "vqdit": set()}[room]
    ours = roots(name) & {"configs", "train", "vqdit", "tests"}
    assert ours <= lower | {room}


@pytest.mark.parametrize("name", names("vqdit"))
def test_the_library_stands_on_jax_and_flax(name):
    assert roots(name) <= OUTSIDE | STANDARD | {"vqdit"}


def below(floors, room):
    """The rooms that lie below a room's floor."""
    for i, floor in enumerate(floors):
        if room in floor:
            return {name for under in floors[:i] for name in under}
    raise AssertionError(f"write on which floor {room} lies")


def imported(name, package):
    """What a file imports from of a package's rooms, or of what lies in one of these;
    its own left out."""
    depth = package.count(".") + 1
    found = {each for each in imports(name) if each.startswith(f"{package}.")}
    return {each.split(".")[depth] for each in found} - {name.split(".")[depth]}


@pytest.mark.parametrize("name", [n for n in names("vqdit") if n != "vqdit"])
def test_rooms_of_the_library(name):
    room = name.split(".")[1]
    assert imported(name, "vqdit") <= below(LIBRARY, room)
    assert "vqdit" not in imports(name), "name the room, not the front door"


@pytest.mark.parametrize("name", [n for n in names("train") if n != "train"])
def test_rooms_of_training(name):
    room = name.split(".")[1]
    assert imported(name, "train") <= below(TRAIN, room) | TOURS.get(room, set())


@pytest.mark.parametrize("name", [n for n in FILES if n.count(".") > 1])
def test_rooms_within_a_room(name):
    parts = name.split(".")
    room, own = ".".join(parts[:2]), parts[2]
    floors = WITHIN.get(room, ((REST,),))
    named = {each for floor in floors for each in floor}
    assert own in named or len(parts) == 3, f"write on which floor {own} lies"
    own, *found = (x if x in named else REST for x in (own, *imported(name, room)))
    assert set(found) <= below(floors, own) | ({own} & {REST})


def test_programs_alone_lie_beside_the_rooms():
    """A file of train/ is a program: it has a main and ends in run(main)."""
    for stem in PROGRAMS:
        if stem != "__init__":
            tree = TREES[f"train.{stem}"]
            defined = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
            assert "main" in defined, f"train/{stem}.py is no program"


# Who imports a room when it is asked for: the front doors, the program that the user
# names, and the class that a file names.
ASKED = ("vqdit", "train", "train.__main__", "vqdit.values")


def below_the_top(tree):
    """What imports something of ours elsewhere than at the top of a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and node.col_offset:
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.col_offset:
            found = ["train" if node.level else node.module]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("import_module", "__import__")
        ):
            named = node.args and isinstance(node.args[0], ast.Constant)
            found = [node.args[0].value if named else "train"]  # it may be any
        else:
            continue
        if {each.partition(".")[0] for each in found} & {"vqdit", "train", "configs"}:
            yield ast.unparse(node)


@pytest.mark.parametrize("name", sorted(FILES))
def test_imports_of_ours_stand_at_the_top(name):
    """One inside a function hides a circle."""
    found = list(below_the_top(TREES[name]))
    assert bool(found) == (name in ASKED), found


@pytest.mark.parametrize(
    "line",
    [
        "import train.runtime as runtime",
        "import json, vqdit.values",
        "from vqdit.values import build",
        "from . import sibling",
        "importlib.import_module('train.runtime')",
        "import_module(f'train.{name}')",
        "__import__('vqdit')",
    ],
)
def test_an_import_inside_a_function_is_seen_in_every_spelling(line):
    inside = ast.parse(f"def f():\n    {line}")
    assert list(below_the_top(inside)) == [ast.unparse(inside.body[0].body)]
    harmless = "import train\n\ndef f():\n    import json\n    from os import path"
    assert not list(below_the_top(ast.parse(harmless)))


def folder(name):
    """The room within a room that a file lies in, or the file itself."""
    parts = name.split(".")
    package = name if FILES[name].name == "__init__.py" else ".".join(parts[:-1])
    return package if package.count(".") > 1 else name


@pytest.mark.parametrize("whole", [lambda name: name, folder], ids=["file", "folder"])
def test_no_circles(whole):
    """No file imports itself through others, packages' front doors apart, and no room
    within a room does."""
    graph = {}
    for name in FILES:
        found = imports(name)
        files = {f if f in FILES else f.rpartition(".")[0] for f in found}
        others = {whole(file) for file in files & set(FILES)}
        graph.setdefault(whole(name), set()).update(others - {whole(name)})
    done = set()

    def visit(name, way):
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for other in graph[name]:
                visit(other, [*way, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def test_the_front_door_is_quick():
    """`import vqdit` imports nothing, `import train` what a signal needs, and no name
    has two homes."""
    assert imports("vqdit") == {"importlib"}
    assert imports("train") == {"importlib", "os", "sys", "train.errors.importing"}
    for package in (vqdit, train):
        homes = {}
        for room in package._ROOMS:
            module = importlib.import_module(f"{package.__name__}.{room}")
            for name, kind in vars(module).items():
                own = getattr(kind, "__module__", "").startswith(module.__name__)
                if isinstance(kind, type) and own and name[0] != "_":
                    assert homes.setdefault(name, room) == room, name
                    assert getattr(package, name) is kind
    for name in dir(vqdit):
        assert getattr(vqdit, name) is not None


@pytest.mark.parametrize("name", vqdit.__all__)
def test_what_is_public_is_there_before_others_import_it(monkeypatch, name):
    """`vqdit.fields` was there once another room had been asked for."""
    monkeypatch.delattr(vqdit, name, raising=False)
    assert getattr(vqdit, name) is importlib.import_module(f"vqdit.{name}")


def test_type_checkers_are_told_what_is_at_the_top():
    stub = ast.parse((ROOT / "vqdit" / "__init__.pyi").read_text())
    told = {
        alias.asname
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    there = {*dir(vqdit), *vqdit.__all__}
    assert told == there, f"write {told ^ there} into vqdit/__init__.pyi, or out of it"


@pytest.mark.parametrize("name", [n for n in FILES if FILES[n].stem == "__init__"])
def test_what_a_room_exports_is_said_once_and_described(name):
    """`__all__` is what its `__init__` imports; a page of the reference shows it."""
    module = importlib.import_module(name)
    assert module.__doc__ or name == "configs"
    found = imports(name) - {"importlib", "os", "sys", "train.errors.importing"}
    exported = set(getattr(module, "__all__", ()))
    if name == "vqdit":
        exported -= {"fields"}
        assert exported == set(vqdit._ROOMS)
    else:
        assert exported == {each.rpartition(".")[2] for each in found}
    for each in exported - set(vqdit._ROOMS):
        value = getattr(module, each)
        ours = getattr(value, "__module__", "").startswith(("vqdit", "train"))
        assert value.__doc__ or not ours, each
        # A file of the same name would hide behind what is exported.
        assert f"{name}.{each}" not in FILES


@pytest.mark.parametrize(
    "library,homes",
    [
        ("orbax", ("train.runtime.checkpoint.checkpoints",)),
        ("jaxtyping", ("vqdit.shapes",)),
        ("tensorflow_datasets", ("train.sources",)),
        ("grain", ("train.pipeline",)),
        ("array_record", ("train.sources", "train.pipeline")),
        ("tokenizers", ("vqdit.tokenizer.text",)),
        ("tqdm", ("train.progress",)),
        ("tensorflow", ()),
        ("torch", ()),
        ("pickle", ()),
        ("cloudpickle", ()),
        ("dill", ()),
        ("joblib", ()),
        ("shelve", ()),
        ("marshal", ()),
    ],
)
def test_one_home_for_each(library, homes):
    allowed = {name for home in homes for name in names(home)}
    assert {name for name in FILES if library in roots(name)} <= allowed


@pytest.mark.parametrize("name", FILES)
def test_nothing_unpickles(name):
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert ast.unparse(node.value) == "False"


def test_one_file_lays_out_meshes():
    """PartitionSpec, meshes and constraints of layout live in one file."""
    words = {"PartitionSpec", "P", "NamedSharding", "Mesh", "make_mesh", "set_mesh"}
    words |= {"with_sharding_constraint", "shard_map", "axis_name"}
    for name in FILES:
        if name == "train.runtime.sharding":
            continue
        tree = TREES[name]
        from_jax = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            and (node.module or "").partition(".")[0] == "jax"
            for alias in node.names
        }
        through_jax = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and ast.unparse(node.value).partition(".")[0] in ("jax", "nn", "flax")
        }
        asked = {n.arg for n in ast.walk(tree) if isinstance(n, ast.keyword)}
        found = (from_jax | through_jax | (asked & {"axis_name"})) & words
        # A kernel and an FFT, which the compiler cannot split.
        if name in ("vqdit.nn.flash", "vqdit.split"):
            found -= {"shard_map"}
        if name == "vqdit.platform":  # an answer, on every device, of explicit axes
            found -= {"PartitionSpec"}
        assert not found, f"{name} uses {sorted(found)}"


def test_one_file_names_a_process():
    """Which process this is, arrays that span several, and how they are started."""
    words = {"process_index", "process_count", "process_indices", "local_devices"}
    words |= {"device_get", "make_array_from_process_local_data", "distributed"}
    words |= {"make_array_from_callback", "multihost_utils", "local_device_count"}
    words |= {"process_allgather", "is_fully_addressable", "addressable_shards"}
    for name in FILES:
        if name == "train.runtime.hosts":
            continue
        named = {
            node.attr
            for node in ast.walk(TREES[name])
            if isinstance(node, ast.Attribute)
        }
        named |= {found.rpartition(".")[2] for found in imports(name)}
        assert not named & words, f"{name} uses {sorted(named & words)}"


def test_bundles_alone_of_the_library_touch_disk():
    for name in names("vqdit"):
        called = {
            ast.unparse(node.func).split(".")[-1]
            for node in ast.walk(TREES[name])
            if isinstance(node, ast.Call)
        }
        files = {"open", "read_bytes", "read_text", "write_bytes", "write_text"}
        bundles = ("vqdit.trained.bundle", "vqdit.trained.saving")
        assert name in bundles or not called & files


KINDS = {"image", "audio", "video", "series", "volume", "range"}
CLASSES = {"Images", "Audio", "Video", "Series", "Volumes", "Ranges"}


@pytest.mark.parametrize(
    "name", [n for n in FILES if n not in names("train.modalities")]
)
def test_no_branch_on_a_kind_of_signal_outside_the_modalities(name):
    """What differs between kinds is a field or a method of the modality."""
    for node in ast.walk(TREES[name]):
        # A comparison, or a look in a table.
        asked = isinstance(node, ast.Compare | ast.Subscript | ast.Match)
        if asked and not name.startswith("configs"):
            words = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
            about = {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
            assert "kind" not in about or not words & KINDS, ast.unparse(node)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            asked = {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)}
            assert not asked & CLASSES, ast.unparse(node)


PROCESSES = {"Process", "Gaussian", "EDM", "Replacement", "Masking", "UniformState"}
PROCESSES |= {"MaskAndReplace", "Continuous", "Discrete"}
OF_PROCESSES = {*names("vqdit.diffusion"), *names("vqdit.nn"), "vqdit.dit"}


@pytest.mark.parametrize("name", [n for n in FILES if n not in OF_PROCESSES])
def test_no_branch_on_a_process_or_a_stream_outside_their_rooms(name):
    """What differs is a field or a method of theirs, so that a new one is one file."""
    for node in ast.walk(TREES[name]):
        asked = None
        if isinstance(node, ast.Call) and ast.unparse(node.func) in SORTS:
            asked = node.args[-1] if node.args else None
        elif isinstance(node, ast.Compare) and "type(" in ast.unparse(node):
            asked = node
        elif isinstance(node, ast.MatchClass):
            asked = node.cls
        if asked is not None:
            words = {n.id for n in ast.walk(asked) if isinstance(n, ast.Name)}
            words |= {n.attr for n in ast.walk(asked) if isinstance(n, ast.Attribute)}
            assert not words & PROCESSES, ast.unparse(node)


SORTS = {"isinstance", "issubclass"}


def test_a_class_or_an_alias_of_a_type_has_one_home():
    """One concept, one word: no name of either is written in two files."""
    homes = collections.defaultdict(set)
    for name in names("vqdit") + names("train"):
        for node in TREES[name].body:
            found = []
            if isinstance(node, ast.ClassDef):
                found = [node.name]
            elif isinstance(node, ast.Assign):
                found = [t.id for t in node.targets if isinstance(t, ast.Name)]
            for word in found:
                if word[0].isupper() and not word.isupper():
                    homes[word].add(name)
    assert len(homes) > 200
    assert not {word: at for word, at in homes.items() if len(at) > 1}


# What both homes mean: the step of a stage, and that numbers are finite.
SAME = {"build_step", "check_finite"}


def test_a_function_that_is_imported_by_its_name_has_one_home():
    """One concept, one word. Elsewhere the module is half of a name, as in
    `hosts.rows`, or the function is its file's own."""
    asked = set().union(*(imports(name) for name in FILES))
    homes = collections.defaultdict(set)
    for name in names("vqdit") + names("train"):
        for node in TREES[name].body:
            if isinstance(node, ast.FunctionDef) and f"{name}.{node.name}" in asked:
                homes[node.name].add(name)
    assert len(homes) > 500
    assert {word for word, at in homes.items() if len(at) > 1} == SAME


def test_functions_ask_for_names_that_are_there():
    """No linter tells here, since to one strings of shapes are names that are not."""
    found = {name: missing(compile(TREES[name], name, "exec")) for name in TREES}
    assert len(found) > 300 and not {n: each for n, each in found.items() if each}


def test_a_name_that_is_not_there_is_seen_in_every_scope():
    for line in ("def f(): return lambda: [g for _ in h]", "class A:\n def f(s): g(h)"):
        assert missing(compile(line, "", "exec")) == {"g", "h"}
        assert not missing(compile(f"g = h = 1\n{line}", "", "exec"))


def missing(module):
    """Globals that functions of a module's code ask for and nothing binds."""
    asked, bound, left = set(), {*dir(builtins), "__file__", "__name__"}, [module]
    while left:
        code = left.pop()
        left += [each for each in code.co_consts if hasattr(each, "co_code")]
        for each in dis.get_instructions(code):
            if each.opname == "LOAD_GLOBAL":
                asked.add(each.argval)
            elif each.opname == "STORE_GLOBAL" or code is module:
                bound.add(each.argval)
    return asked - bound


def test_no_room_for_odds_and_ends():
    odd = {"utils", "util", "common", "helpers", "helper", "base", "misc"}
    for room in ("vqdit", "train", "configs", "tests"):
        paths = [p for p in (ROOT / room).rglob("*") if "__pycache__" not in p.parts]
        assert not {p.stem for p in paths} & odd
