"""libFuzzer over one target, in a process of its own: `python -m tests.fuzz.child TARGET [options of libFuzzer]`.

atheris is not among restante's requirements; tests.fuzz.__main__ puts it on the path.
"""

from __future__ import annotations

import logging
import sys

import atheris

#: Modules of Python whose branches guide the fuzzer too; those that are loaded already are loaded anew.
_ALSO = ("urllib.parse", "ipaddress", "email._parseaddr", "email.utils", "encodings.idna", "stringprep", "yarl")
for _name in [name for name in sys.modules if name.startswith(_ALSO)]:
    del sys.modules[_name]

with atheris.instrument_imports(include=["restante", *_ALSO]):
    from tests.fuzz.planted import PLANTED
    from tests.fuzz.targets import TARGETS


def main() -> None:
    logging.disable(logging.CRITICAL)
    name, *options = sys.argv[1:]
    target = PLANTED if name == "planted" else TARGETS[name]
    atheris.Setup([sys.argv[0], *options], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
