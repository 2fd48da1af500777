"""What processes that wait for each other do, by one that stands for them."""

import contextlib
from collections.abc import Callable, Iterator

from train.errors import BadInput


def noting(left: list[str]) -> Callable[[], contextlib.AbstractContextManager]:
    """In the place of `hosts.together` or `fail_fast`: what is refused inside goes on
    the list, and further up."""

    @contextlib.contextmanager
    def together() -> Iterator[None]:
        try:
            yield
        except (BadInput, OSError) as error:
            left.append(str(error))
            raise

    return together
